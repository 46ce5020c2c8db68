// The linear layers of a language model as those of a QuantizedModel.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/models/model.hpp"
#include "models/calibrate/quantized_layer.hpp"
#include "models/load/model_linears.hpp"

namespace kvant::models {
namespace {

[[noreturn]] void cannot_take(const std::string& why) {
  throw Error(ErrorCode::unsupported,
              "QuantizedModel: " + why +
                  "; take the layers of a model that was loaded in scheme fp32, without a device, "
                  "ranks or an adapter");
}

}  // namespace

/// What stands in a layer's place.
class QuantizedModel::TakenLinear final : public LinearLayer {
 public:
  explicit TakenLinear(std::shared_ptr<Layer> layer) : layer_(std::move(layer)) {}
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override {
    layer_->forward(context, x.x(), y, std::nullopt);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_->outputs; }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_->footprint(); }

 private:
  std::shared_ptr<Layer> layer_;
};

void QuantizedModel::take_layers(Context& context, Model& model) {
  if (model.stream != Stream::fp32) cannot_take("the model computes in bf16");
  if (model.split) cannot_take("the model is shared by ranks");
  const std::vector<ModelLinear> linears = linears_of(model);
  std::vector<std::shared_ptr<Layer>> taken;
  std::vector<std::unique_ptr<LinearLayer>> in_place;
  for (const ModelLinear& linear : linears) {
    const auto* const floats = dynamic_cast<const FloatLinear*>(linear.slot->get());
    if (floats == nullptr) cannot_take("layer \"" + linear.name + "\" is not in float");
    require_new(linear.name);
    const std::vector<float> weights = floats->weights().floats(context);
    taken.push_back(std::make_shared<Layer>(
        linear.name,
        MatrixView<const float>(weights.data(), floats->weights().rows(), floats->weights().cols()),
        floats->bias()));
    in_place.push_back(std::make_unique<TakenLinear>(taken.back()));
  }
  layers_.insert(layers_.end(), taken.begin(), taken.end());
  for (std::size_t i = 0; i < linears.size(); ++i) *linears[i].slot = std::move(in_place[i]);
}

}  // namespace kvant::models
