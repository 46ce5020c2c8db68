#include "kvant/models/quantized_model.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "kvant/core/distribution_observer.hpp"
#include "kvant/error.hpp"
#include "kvant/float8.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "models/load/layer_maker.hpp"

namespace kvant::models {
namespace {

constexpr float kInputMomentum = 0.9f;
constexpr float kNoScale = std::numeric_limits<float>::quiet_NaN();

float highest(ActivationCodes codes) {
  return codes == ActivationCodes::fp8 ? 448.0f : 127.0f;
}

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::invalid_argument, "QuantizedModel: " + what);
}

/// The code nearest to value / scale, as a float.
float code_of(float value, float scale, ActivationCodes codes) {
  const float quotient = value / scale;
  if (codes == ActivationCodes::fp8) {
    return static_cast<float>(float8_e4m3fn(std::clamp(quotient, -448.0f, 448.0f)));
  }
  return std::clamp(std::nearbyint(quotient), -128.0f, 127.0f);
}

/// A scale that follows batches.
class MovingScale {
 public:
  void measure(MatrixView<const float> x, ActivationCodes codes, float momentum) {
    if (!observer_) observer_.emplace(momentum);
    observer_->observe(x, highest(codes));
    if (!observer_->scales().empty()) scale_ = observer_->scales()[0];
  }
  void set(float scale) { scale_ = scale; }
  void forget() { *this = {}; }
  [[nodiscard]] float value() const { return scale_; }
  [[nodiscard]] bool known() const { return std::isfinite(scale_); }

 private:
  std::optional<AbsmaxMomentumObserver> observer_;
  float scale_ = kNoScale;
};

void round_to_codes(MatrixView<float> y, float scale, ActivationCodes codes) {
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    for (std::int64_t c = 0; c < y.cols(); ++c) y(r, c) = code_of(y(r, c), scale, codes) * scale;
  }
}

}  // namespace

struct QuantizedModel::Layer {
  std::string name;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::vector<float> weights;  ///< empty behind freeze()
  std::vector<float> bias;
  LayerQuantization quantization{.weights = std::nullopt};
  MovingScale input;
  MovingScale output;
  Linear linear;  ///< what is multiplied

  [[nodiscard]] MatrixView<const float> view() const { return {weights.data(), outputs, inputs}; }
  /// The codes of the weights, and the scale of the activations, as they are now. Integers are
  /// multiplied by integers; all else as the real values of both, as quanto does.
  void pack(Context& context) {
    const WeightFormat format = quantization.weights.value_or(WeightFormat::float32);
    QuantParams params;
    ActivationOptions options{.arithmetic = Arithmetic::exact};
    if (quantization.activations != ActivationCodes::none) {
      params.scheme =
          quantization.activations == ActivationCodes::int8 ? quanto_qint8 : quanto_qfloat8;
      params.scale = {input.value()};
      options.static_params = &params;
    }
    if (format != WeightFormat::int8_row) {
      linear = Linear::quantize(context, view(), format, bias_view(bias), options);
      return;
    }
    if (quantization.activations == ActivationCodes::int8) options.arithmetic = Arithmetic::kvant;
    const QuantizedMatrix quantized =
        kvant::quantize(context, view(), choose_params(context, view(), quanto_qint8, per_row));
    linear = Linear::from(PackedWeights::from(context, quantized), bias_view(bias), options);
  }
};

QuantizedModel::QuantizedModel() = default;
QuantizedModel::~QuantizedModel() = default;
QuantizedModel::QuantizedModel(QuantizedModel&&) noexcept = default;
QuantizedModel& QuantizedModel::operator=(QuantizedModel&&) noexcept = default;

QuantizedModel::Layer& QuantizedModel::at(std::size_t layer) const {
  if (layer >= layers_.size()) {
    refuse("layer " + std::to_string(layer) + " of " + std::to_string(layers_.size()));
  }
  return *layers_[layer];
}

std::size_t QuantizedModel::add(std::string name, MatrixView<const float> weights,
                                std::span<const float> bias) {
  if (frozen_) refuse("is frozen; \"" + name + "\" cannot be added");
  for (const auto& layer : layers_) {
    if (layer->name == name) refuse("there is a layer \"" + name + "\" already");
  }
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != weights.rows()) {
    throw Error(ErrorCode::shape_mismatch, "QuantizedModel: layer \"" + name + "\" has " +
                                               std::to_string(weights.rows()) + " outputs, " +
                                               std::to_string(bias.size()) + " biases");
  }
  auto layer = std::make_unique<Layer>();
  layer->name = std::move(name);
  layer->outputs = weights.rows();
  layer->inputs = weights.cols();
  for (std::int64_t r = 0; r < weights.rows(); ++r) {
    layer->weights.insert(layer->weights.end(), weights.row_data(r),
                          weights.row_data(r) + weights.cols());
  }
  layer->bias.assign(bias.begin(), bias.end());
  for (const std::vector<float>* values : {&layer->weights, &layer->bias}) {
    if (!std::all_of(values->begin(), values->end(), [](float v) { return std::isfinite(v); })) {
      throw Error(ErrorCode::not_finite,
                  "QuantizedModel: layer \"" + layer->name + "\" holds NaN or infinities");
    }
  }
  layers_.push_back(std::move(layer));
  return layers_.size() - 1;
}

void QuantizedModel::quantize(const LayerQuantization& all,
                              const std::vector<LayerQuantizationRule>& rules) {
  if (frozen_) refuse("is frozen already");
  for (const LayerQuantizationRule& rule : rules) {
    const bool found = std::any_of(layers_.begin(), layers_.end(), [&](const auto& layer) {
      return io::glob_match(rule.pattern, layer->name);
    });
    if (!found) refuse("the pattern \"" + rule.pattern + "\" matches no layer");
  }
  for (const auto& layer : layers_) {
    layer->quantization = all;
    for (const LayerQuantizationRule& rule : rules) {
      if (io::glob_match(rule.pattern, layer->name)) layer->quantization = rule.quantization;
    }
    if (!layer->quantization.weights) layer->quantization.activations = ActivationCodes::none;
    layer->input.forget();
    layer->output.forget();
  }
  quantized_ = true;
}

void QuantizedModel::freeze(Context& context) {
  if (frozen_) return;
  if (!quantized_) refuse("say what the layers become before they are frozen (quantize)");
  for (const auto& layer : layers_) {
    if (layer->quantization.activations != ActivationCodes::none && !layer->input.known()) {
      refuse("activations of layer \"" + layer->name +
             "\" were never calibrated; run some batches with a Calibration");
    }
  }
  for (const auto& layer : layers_) {
    layer->pack(context);
    layer->weights = {};
  }
  frozen_ = true;
}

bool QuantizedModel::frozen() const noexcept {
  return frozen_;
}

void QuantizedModel::forward(Context& context, std::size_t number, MatrixView<const float> x,
                             MatrixView<float> y, std::optional<float> x_scale) {
  Layer& layer = at(number);
  if (x.cols() != layer.inputs || y.cols() != layer.outputs || x.rows() != y.rows()) {
    throw Error(ErrorCode::shape_mismatch,
                "QuantizedModel: layer \"" + layer.name + "\" is [" +
                    std::to_string(layer.outputs) + ", " + std::to_string(layer.inputs) + "], x [" +
                    std::to_string(x.rows()) + ", " + std::to_string(x.cols()) + "], y [" +
                    std::to_string(y.rows()) + ", " + std::to_string(y.cols()) + "]");
  }
  const ActivationCodes codes = layer.quantization.activations;
  const bool measures = momentum_ >= 0 && codes != ActivationCodes::none;
  if (measures && x_scale) {
    layer.input.set(*x_scale);
  } else if (measures) {
    layer.input.measure(x, codes, kInputMomentum);
  }
  if (codes != ActivationCodes::none && !layer.input.known()) {
    refuse("activations of layer \"" + layer.name +
           "\" are not calibrated; run some batches with a Calibration");
  }
  if (!frozen_) layer.pack(context);  // weights may have been trained since
  layer.linear.forward(context, x, y);
  if (measures) layer.output.measure(y, codes, momentum_);
  if (layer.quantization.quantize_outputs && layer.output.known()) {
    round_to_codes(y, layer.output.value(), codes);
  }
}

MatrixView<float> QuantizedModel::weights(std::size_t number) {
  Layer& layer = at(number);
  if (frozen_) refuse("is frozen: the floats of \"" + layer.name + "\" are gone");
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
  for (const auto& layer : layers_) {
    bytes += layer->bias.size() * sizeof(float);
    if (!frozen_ || !layer->quantization.weights) {
      bytes += static_cast<std::size_t>(layer->outputs * layer->inputs) * sizeof(float);
    } else {
      bytes += layer->linear.weights().stored_bytes();
    }
    if (quantized_ && layer->quantization.weights) bytes += 2 * sizeof(float);
  }
  return bytes;
}

Calibration::Calibration(QuantizedModel& model, float momentum) : model_(model) {
  if (!(momentum >= 0 && momentum < 1)) {
    refuse("a momentum of " + std::to_string(momentum) + " is not in [0, 1)");
  }
  if (model.frozen_) refuse("is frozen; calibrate before");
  if (model.momentum_ >= 0) refuse("is being calibrated already");
  model.momentum_ = momentum;
}

Calibration::~Calibration() {
  model_.momentum_ = -1;
}

}  // namespace kvant::models
