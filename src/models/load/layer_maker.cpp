#include "models/load/layer_maker.hpp"

#include <algorithm>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/io/int8_checkpoint.hpp"
#include "kvant/linear_quantizer.hpp"

namespace kvant::models {
namespace {

ConstAnyMatrix bias_view(const std::vector<float>& bias) {
  if (bias.empty()) return {};
  return MatrixView<const float>(bias.data(), 1, static_cast<std::int64_t>(bias.size()));
}

}  // namespace

LayerMaker::LayerMaker(Context& context, const LoadOptions& options, const WeightSource& source)
    : context_(context), options_(options), source_(source) {
  if (plan().stored_int8 && plan().mode == Arithmetic::kvant) {
    outliers_ = io::stored_outliers(*source.checkpoint());
  }
}

bool LayerMaker::skipped(const LayerName& layer) const {
  return std::any_of(options_.skip.begin(), options_.skip.end(), [&](const std::string& pattern) {
    return io::glob_match(pattern, layer.full);
  });
}

std::unique_ptr<LinearLayer> LayerMaker::stay_float(FloatParameters parameters) const {
  return std::make_unique<FloatLinear>(std::move(parameters.weights), std::move(parameters.bias),
                                       bf16());
}

std::unique_ptr<LinearLayer> LayerMaker::quantize(
    const LayerName& layer, FloatParameters parameters,
    const std::vector<std::int64_t>& keep_columns) const {
  // What a quantized folder holds in float is meant to stay so.
  const bool stays = plan().scheme == Scheme::fp32 || plan().scheme == Scheme::stored || bf16() ||
                     plan().stored_int8;
  if (stays || skipped(layer)) return stay_float(std::move(parameters));
  const ConstAnyMatrix weights = parameters.weights.view();
  const ConstAnyMatrix bias = bias_view(parameters.bias);
  if (plan().scheme.kind == Scheme::Kind::packed) {
    return std::make_unique<QuantizedLinear>(Linear::quantize(
        context_, weights, plan().scheme.format, bias, activations(), {.block = plan().group}));
  }
  if (plan().scheme == Scheme::int8_tensor) {  // one scale for all weights, one for a batch
    const QuantizedMatrix codes =
        kvant::quantize(context_, weights, choose_params(context_, weights, int8_symmetric));
    return std::make_unique<QuantizedLinear>(Int8Linear::from(
        context_, codes, bias, {.threshold = 0, .activation_scale = ActivationScale::per_tensor}));
  }
  Int8Options options;
  options.threshold = plan().threshold;
  options.arithmetic = plan().mode;
  options.keep_columns = keep_columns;
  return std::make_unique<QuantizedLinear>(Int8Linear::quantize(context_, weights, bias, options));
}

ActivationOptions LayerMaker::activations() const {
  ActivationOptions options;
  if (plan().exact) options.arithmetic = Arithmetic::exact;
  return options;
}

std::unique_ptr<LinearLayer> LayerMaker::from_stored_layer(const LayerName& layer,
                                                           const LinearSpec& linear,
                                                           const std::vector<float>& bias) const {
  const std::string name = layer.file + ".weight";
  if (plan().scheme != Scheme::stored || skipped(layer) || !source_.is_quantized(name)) {
    return nullptr;
  }
  std::optional<PackedWeights> weights = source_.packed(context_, name);
  source_.release(name);
  if (!weights) return nullptr;
  if (weights->n() != linear.outputs || weights->k() != linear.inputs) {
    throw Error(ErrorCode::shape_mismatch,
                "layer \"" + layer.file + "\" is [" + std::to_string(weights->n()) + ", " +
                    std::to_string(weights->k()) + "], config.json makes it [" +
                    std::to_string(linear.outputs) + ", " + std::to_string(linear.inputs) + "]");
  }
  return std::make_unique<QuantizedLinear>(
      Linear::from(std::move(*weights), bias_view(bias), activations()));
}

bool LayerMaker::holds_codes(const LayerName& layer) const {
  return plan().stored_int8 && source_.checkpoint() != nullptr &&
         io::is_int8_layer(*source_.checkpoint(), layer.file);
}

std::unique_ptr<LinearLayer> LayerMaker::from_stored_codes(const LayerName& layer,
                                                           const LinearSpec& linear,
                                                           const std::vector<float>& bias) const {
  const std::string& base = layer.file;
  if (skipped(layer)) {
    throw RequestError("layer " + base +
                       " is to stay in float, but is stored in 8 bits: its float weights are gone");
  }
  const io::Int8Layer stored = io::read_int8_layer(*source_.checkpoint(), base);
  if (stored.codes.rows() != linear.outputs || stored.codes.cols() != linear.inputs) {
    throw Error(ErrorCode::shape_mismatch,
                "tensor \"" + base + ".weight\" is [" + std::to_string(stored.codes.rows()) + ", " +
                    std::to_string(stored.codes.cols()) + "], config.json makes it [" +
                    std::to_string(linear.outputs) + ", " + std::to_string(linear.inputs) + "]");
  }
  Int8Options options;
  options.threshold = plan().threshold;
  options.arithmetic = plan().mode;
  options.outliers = outliers_;
  ConstAnyMatrix kept;
  // bitsandbytes knows the codes only; without a threshold nothing takes the float path.
  if (plan().mode == Arithmetic::kvant && plan().threshold > 0) {
    options.keep_columns = stored.kept_columns;
    kept = stored.kept_weights;
  }
  auto result = std::make_unique<QuantizedLinear>(Int8Linear::from_codes(
      context_, stored.codes, stored.absmax, bias_view(bias), options, kept));
  source_.release(base + ".weight");
  return result;
}

}  // namespace kvant::models
