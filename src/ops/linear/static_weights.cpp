// What static scales and zero points of activations make of a layer's weights, once.

#include <cmath>
#include <string>
#include <vector>

#include "ops/linear/multiply.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {
namespace {

/// offsets[n] = what kernels subtract anyway + sum over k of zero[k] * code[n, k].
void fold_into_offsets(LayerWeights& layer, const StaticActivations& statics) {
  const PackedWeights& w = layer.packed;
  layer.offsets = AlignedArray<std::int32_t>(static_cast<std::size_t>(w.layout().padded_n(w.n())),
                                             std::int32_t{0});
  std::vector<std::byte> codes(static_cast<std::size_t>(w.k()));
  for (std::int64_t n = 0; n < w.n(); ++n) {
    w.state().unpack_row(n, codes.data());
    std::int64_t sum = w.offsets() != nullptr ? w.offsets()[n] : 0;
    for (std::int64_t k = 0; k < w.k(); ++k) {
      sum += statics.zero(k) *
             std::int64_t{static_cast<std::int8_t>(codes[static_cast<std::size_t>(k)])};
    }
    layer.offsets[static_cast<std::size_t>(n)] = static_cast<std::int32_t>(sum);
  }
}

/// shifted_bias[n] = bias[n] - scale * sum over k of zero[k] * weight[n, k], in double.
void fold_into_bias(LayerWeights& layer, const StaticActivations& statics) {
  const PackedWeights& w = layer.packed;
  layer.shifted_bias =
      AlignedArray<float>(static_cast<std::size_t>(w.layout().padded_n(w.n())), 0.0f);
  AlignedArray<std::byte> scratch(static_cast<std::size_t>(w.state().decode_scratch()));
  std::vector<float> values(static_cast<std::size_t>(w.k()));
  for (std::int64_t n = 0; n < w.n(); ++n) {
    w.state().decode_row(n, scratch.data(), values.data());
    double sum = 0;
    for (std::int64_t k = 0; k < w.k(); ++k) {
      sum += statics.zero(k) * static_cast<double>(values[static_cast<std::size_t>(k)]);
    }
    const auto at = static_cast<std::size_t>(n);
    const double bias = layer.bias.empty() ? 0.0 : static_cast<double>(layer.bias[at]);
    layer.shifted_bias[at] = static_cast<float>(bias - static_cast<double>(statics.scale()) * sum);
  }
}

}  // namespace

void fold_zero_points(const char* who, LayerWeights& layer, const QuantParams& params) {
  const PackedWeights& w = layer.packed;
  if (w.n() == 0 || w.k() == 0) return;
  const StaticActivations statics(params, w.k());
  const WeightFormatInfo& info = describe(w.format());
  if (w.format() == WeightFormat::int8_row) {
    statics.check_sums(who, w.k());
    if (statics.has_zeros()) fold_into_offsets(layer, statics);
    return;
  }
  if (params.scheme.lowest - statics.shift() < -127) {
    fail(ErrorCode::unsupported,
         std::string(who) + ": static codes from " +
             std::to_string(params.scheme.lowest - statics.shift()) + " on, but products with " +
             std::string(info.name) +
             " weights are exact from -127 on; choose them with scheme.with_range(" +
             std::to_string(statics.shift() - 127) + ", " + std::to_string(params.scheme.highest) +
             ")");
  }
  if (!statics.has_zeros()) return;
  if (info.codebook != Codebook::linear) {
    fail(ErrorCode::unsupported,
         std::string(who) + ": static zero points with " + std::string(info.name) +
             " weights, whose table is rounded to integers; choose a symmetric scheme, or "
             "Arithmetic::exact");
  }
  fold_into_bias(layer, statics);
}

Matrix<float> fold_scales(const ConstAnyMatrix& weights, const QuantParams& params) {
  const StaticActivations statics(params, weights.cols);
  Matrix<float> folded(weights.rows, weights.cols);
  for (std::int64_t n = 0; n < weights.rows; ++n) {
    for (std::int64_t k = 0; k < weights.cols; ++k) {
      folded(n, k) = load_float(weights, n, k) * statics.fold(k);
    }
  }
  return folded;
}

bool folds_scales(const ActivationRules& rules, std::int64_t k) {
  return rules.is_static() && k > 0 && StaticActivations(*rules.static_params, k).folds();
}

}  // namespace kvant::detail
