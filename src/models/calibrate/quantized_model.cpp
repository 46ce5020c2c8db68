#include "kvant/models/quantized_model.hpp"

#include <algorithm>
#include <string>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/glob.hpp"
#include "models/calibrate/quantized_layer.hpp"

namespace kvant::models {

QuantizedModel::QuantizedModel() = default;
QuantizedModel::~QuantizedModel() = default;
QuantizedModel::QuantizedModel(QuantizedModel&&) noexcept = default;
QuantizedModel& QuantizedModel::operator=(QuantizedModel&&) noexcept = default;

QuantizedModel::Layer& QuantizedModel::at(std::size_t layer) const {
  if (layer >= layers_.size()) {
    refuse_quantized_model("layer " + std::to_string(layer) + " of " +
                           std::to_string(layers_.size()));
  }
  return *layers_[layer];
}

void QuantizedModel::require_new(const std::string& name) const {
  if (frozen_) refuse_quantized_model("is frozen; \"" + name + "\" cannot be added");
  if (calibrating_) {
    refuse_quantized_model("is being calibrated; \"" + name + "\" must be added before");
  }
  for (const auto& layer : layers_) {
    if (layer->name == name) refuse_quantized_model("there is a layer \"" + name + "\" already");
  }
}

std::size_t QuantizedModel::add(std::string name, MatrixView<const float> weights,
                                std::span<const float> bias) {
  require_new(name);
  layers_.push_back(std::make_shared<Layer>(std::move(name), weights, bias));
  return layers_.size() - 1;
}

void QuantizedModel::quantize(const LayerQuantization& all,
                              const std::vector<LayerQuantizationRule>& rules) {
  if (frozen_) refuse_quantized_model("is frozen already");
  for (const LayerQuantizationRule& rule : rules) {
    const bool found = std::any_of(layers_.begin(), layers_.end(), [&](const auto& layer) {
      return io::glob_match(rule.pattern, layer->name);
    });
    if (!found) refuse_quantized_model("the pattern \"" + rule.pattern + "\" matches no layer");
  }
  const auto require_packed = [](const LayerQuantization& what) {
    if (!what.weights || !describe(*what.weights).is_gguf()) return;
    throw Error(ErrorCode::unsupported,
                "QuantizedModel: no floats are packed as " + std::string(to_string(*what.weights)));
  };
  require_packed(all);
  for (const LayerQuantizationRule& rule : rules) require_packed(rule.quantization);
  for (const auto& layer : layers_) {
    const LayerQuantization* what = &all;
    for (const LayerQuantizationRule& rule : rules) {
      if (io::glob_match(rule.pattern, layer->name)) what = &rule.quantization;
    }
    layer->become(*what);
  }
  quantized_ = true;
}

void QuantizedModel::freeze(Context& context) {
  if (frozen_) return;
  if (calibrating_) refuse_quantized_model("is being calibrated; end that before it is frozen");
  if (!quantized_)
    refuse_quantized_model("say what the layers become before they are frozen (quantize)");
  for (const auto& layer : layers_) {
    if (layer->quantization.activations != ActivationCodes::none && !layer->input.known()) {
      refuse_quantized_model("activations of layer \"" + layer->name +
                             "\" were never calibrated; run some batches with a Calibration");
    }
  }
  for (const auto& layer : layers_) layer->pack(context);  // may throw; nothing is lost then
  for (const auto& layer : layers_) layer->drop_floats();
  frozen_ = true;
}

const std::string& QuantizedModel::name(std::size_t layer) const {
  return at(layer).name;
}

bool QuantizedModel::frozen() const noexcept {
  return frozen_;
}

void QuantizedModel::forward(Context& context, std::size_t layer, MatrixView<const float> x,
                             MatrixView<float> y, std::optional<float> x_scale) {
  at(layer).forward(context, x, y, x_scale);
}

MatrixView<float> QuantizedModel::weights(std::size_t number) {
  Layer& layer = at(number);
  if (frozen_) refuse_quantized_model("is frozen: the floats of \"" + layer.name + "\" are gone");
  return {layer.weights.data(), layer.outputs, layer.inputs};
}

float QuantizedModel::input_scale(std::size_t layer) const {
  return at(layer).input.value();
}
float QuantizedModel::output_scale(std::size_t layer) const {
  return at(layer).output.value();
}

std::size_t QuantizedModel::footprint() const {
  std::size_t bytes = 0;
  for (const auto& layer : layers_) bytes += layer->footprint();
  return bytes;
}

Calibration::Calibration(QuantizedModel& model, float momentum) : model_(model) {
  if (!(momentum >= 0 && momentum < 1)) {
    refuse_quantized_model("a momentum of " + std::to_string(momentum) + " is not in [0, 1)");
  }
  if (model.frozen_) refuse_quantized_model("is frozen; calibrate before");
  if (model.calibrating_) refuse_quantized_model("is being calibrated already");
  model.calibrating_ = true;
  for (const auto& layer : model.layers_) layer->momentum = momentum;
}

Calibration::~Calibration() {
  for (const auto& layer : model_.layers_) layer->momentum = -1;
  model_.calibrating_ = false;
}

}  // namespace kvant::models
