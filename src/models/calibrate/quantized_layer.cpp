#include "models/calibrate/quantized_layer.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/float8.hpp"
#include "kvant/linear_quantizer.hpp"
#include "models/load/layer_maker.hpp"

namespace kvant::models {
namespace {

constexpr float kInputMomentum = 0.9f;

float highest(ActivationCodes codes) {
  return codes == ActivationCodes::fp8 ? 448.0f : 127.0f;
}

/// The code nearest to value / scale, as a float.
float code_of(float value, float scale, ActivationCodes codes) {
  const float quotient = value / scale;
  if (codes == ActivationCodes::fp8) {
    return static_cast<float>(float8_e4m3fn(std::clamp(quotient, -448.0f, 448.0f)));
  }
  return std::clamp(std::nearbyint(quotient), -128.0f, 127.0f);
}

void round_to_codes(MatrixView<float> y, float scale, ActivationCodes codes) {
  for (std::int64_t r = 0; r < y.rows(); ++r) {
    for (std::int64_t c = 0; c < y.cols(); ++c) y(r, c) = code_of(y(r, c), scale, codes) * scale;
  }
}

std::string shape(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

}  // namespace

void refuse_quantized_model(const std::string& what) {
  throw Error(ErrorCode::invalid_argument, "QuantizedModel: " + what);
}

void MovingScale::measure(MatrixView<const float> x, ActivationCodes codes, float momentum) {
  bool zero = true;
  for (std::int64_t r = 0; r < x.rows() && zero; ++r) {
    const float* const row = x.row_data(r);
    zero = std::all_of(row, row + x.cols(), [](float value) { return value == 0.0f; });
  }
  if (zero) return;
  if (!observer_) observer_.emplace(momentum);
  observer_->observe(x, highest(codes));
  if (!observer_->scales().empty()) scale_ = observer_->scales()[0];
}

bool MovingScale::known() const {
  return std::isfinite(scale_);
}

QuantizedModel::Layer::Layer(std::string its_name, MatrixView<const float> its_weights,
                             std::span<const float> its_bias)
    : name(std::move(its_name)),
      outputs(its_weights.rows()),
      inputs(its_weights.cols()),
      bias(its_bias.begin(), its_bias.end()) {
  if (!bias.empty() && static_cast<std::int64_t>(bias.size()) != outputs) {
    throw Error(ErrorCode::shape_mismatch, "QuantizedModel: layer \"" + name + "\" has " +
                                               std::to_string(outputs) + " outputs, " +
                                               std::to_string(bias.size()) + " biases");
  }
  weights.reserve(static_cast<std::size_t>(outputs * inputs));
  for (std::int64_t r = 0; r < outputs; ++r) {
    weights.insert(weights.end(), its_weights.row_data(r), its_weights.row_data(r) + inputs);
  }
  for (const std::vector<float>* values : {&weights, &bias}) {
    if (!std::all_of(values->begin(), values->end(), [](float v) { return std::isfinite(v); })) {
      throw Error(ErrorCode::not_finite,
                  "QuantizedModel: layer \"" + name + "\" holds NaN or infinities");
    }
  }
}

void QuantizedModel::Layer::become(const LayerQuantization& what) {
  quantization = what;
  if (!has_codes()) quantization.activations = ActivationCodes::none;
  input.forget();
  output.forget();
}

void QuantizedModel::Layer::pack(Context& context) {
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
  const QuantizedMatrix codes =
      kvant::quantize(context, view(), choose_params(context, view(), quanto_qint8, per_row));
  linear = Linear::from(PackedWeights::from(context, codes), bias_view(bias), options);
}

void QuantizedModel::Layer::drop_floats() noexcept {
  std::vector<float>().swap(weights);
  frozen = true;
}

void QuantizedModel::Layer::forward(Context& context, MatrixView<const float> x,
                                    MatrixView<float> y, std::optional<float> x_scale) {
  if (x.cols() != inputs || y.cols() != outputs || x.rows() != y.rows()) {
    throw Error(ErrorCode::shape_mismatch,
                "QuantizedModel: layer \"" + name + "\" is " + shape(outputs, inputs) + ", x " +
                    shape(x.rows(), x.cols()) + ", y " + shape(y.rows(), y.cols()));
  }
  const ActivationCodes codes = quantization.activations;
  const bool measures = momentum >= 0 && codes != ActivationCodes::none;
  if (measures && x_scale) {
    input.set(*x_scale);
  } else if (measures) {
    input.measure(x, codes, kInputMomentum);
  }
  if (codes != ActivationCodes::none && !input.known()) {
    refuse_quantized_model("activations of layer \"" + name +
                           "\" are not calibrated; run some batches with a Calibration");
  }
  if (!frozen) pack(context);  // weights may have been trained since
  linear.forward(context, x, y);
  if (measures) output.measure(y, codes, momentum);
  if (quantization.quantize_outputs && output.known()) round_to_codes(y, output.value(), codes);
}

std::size_t QuantizedModel::Layer::footprint() const {
  std::size_t bytes = bias.size() * sizeof(float);
  if (!frozen || !has_codes()) {
    bytes += static_cast<std::size_t>(outputs * inputs) * sizeof(float);
  } else {
    bytes += linear.weights().stored_bytes();
  }
  if (has_codes()) bytes += 2 * sizeof(float);
  return bytes;
}

}  // namespace kvant::models
