// Int8Linear: Linear with int8_row weights.

#include <string>

#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/support/border.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

Int8Linear Int8Linear::quantize(ConstAnyMatrix weights, ConstAnyMatrix bias,
                                const Int8Options& options) {
  return quantize(default_context(), weights, bias, options);
}
Int8Linear Int8Linear::quantize(Context& context, ConstAnyMatrix weights, ConstAnyMatrix bias,
                                const Int8Options& options) {
  return Int8Linear(Linear::quantize_as("Int8Linear::quantize", context, weights,
                                        WeightFormat::int8_row, bias, options));
}

Int8Linear Int8Linear::from_codes(MatrixView<const std::int8_t> codes,
                                  std::span<const float> absmax, ConstAnyMatrix bias,
                                  const Int8Options& options, ConstAnyMatrix kept_weights) {
  return from_codes(default_context(), codes, absmax, bias, options, kept_weights);
}
Int8Linear Int8Linear::from_codes(Context& context, MatrixView<const std::int8_t> codes,
                                  std::span<const float> absmax, ConstAnyMatrix bias,
                                  const Int8Options& options, ConstAnyMatrix kept_weights) {
  constexpr const char* kWho = "Int8Linear::from_codes";
  return at_border(kWho, [&] {
    if (static_cast<std::int64_t>(absmax.size()) != codes.rows()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": " + std::to_string(absmax.size()) +
                                          " absmax values for " + std::to_string(codes.rows()) +
                                          " rows of codes");
    }
    return Int8Linear(Linear::assemble(kWho, PackedWeights::from_codes(context, codes, absmax),
                                       bias, options, kept_weights));
  });
}

Int8Linear Int8Linear::from(const QuantizedMatrix& weights, ConstAnyMatrix bias,
                            const Int8Options& options) {
  return from(default_context(), weights, bias, options);
}
Int8Linear Int8Linear::from(Context& context, const QuantizedMatrix& weights, ConstAnyMatrix bias,
                            const Int8Options& options) {
  constexpr const char* kWho = "Int8Linear::from";
  const std::int64_t cols = weights.block().cols;
  if (cols != 0 && cols < weights.cols()) {
    fail(ErrorCode::unsupported,
         std::string(kWho) + ": a scale for " + std::to_string(cols) + " of " +
             std::to_string(weights.cols()) +
             " neighbours of a row; int8 has one scale a row (per_tensor, per_row or blocks of "
             "whole rows), Linear::from takes groups of a multiple of 32");
  }
  return at_border(kWho, [&] {
    return Int8Linear(
        Linear::assemble(kWho, PackedWeights::from(context, weights), bias, options, {}));
  });
}

void Int8Linear::forward(ConstAnyMatrix x, AnyMatrix y) const {
  forward(default_context(), x, y);
}
void Int8Linear::forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const {
  linear_.forward_as("Int8Linear::forward", context, x, y);
}
Status Int8Linear::try_forward(Context& context, ConstAnyMatrix x, AnyMatrix y) const noexcept {
  return linear_.try_forward(context, x, y);
}

std::vector<std::int8_t> Int8Linear::codes() const {
  std::vector<std::int8_t> codes(static_cast<std::size_t>(out_features() * in_features()));
  linear_.weights().unpack_rows(
      0, MatrixView<std::int8_t>(codes.data(), out_features(), in_features()));
  return codes;
}

void Int8Linear::dequantize(AnyMatrix w) const {
  constexpr const char* kWho = "Int8Linear::dequantize";
  at_border(kWho, [&] {
    check_float(kWho, "w", w);
    check_writable(kWho, "w", w);
    if (w.rows != out_features() || w.cols != in_features()) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": w is " + shape_text(w.rows, w.cols) +
                                          ", the layer " +
                                          shape_text(out_features(), in_features()));
    }
    if (arithmetic() != Arithmetic::bitsandbytes) {
      linear_.dequantize(w);
      return;
    }
    const std::vector<float> scales = linear_.weights().absmax_values();
    std::vector<std::int8_t> codes(static_cast<std::size_t>(w.cols));
    for (std::int64_t n = 0; n < w.rows; ++n) {
      linear_.weights().unpack_rows(n, MatrixView<std::int8_t>(codes.data(), 1, w.cols));
      const float scale = scales[static_cast<std::size_t>(n)];
      for (std::int64_t k = 0; k < w.cols; ++k) {
        const auto code = static_cast<float>(codes[static_cast<std::size_t>(k)]);
        store_float(w, n, k, code * scale * kInverse127);
      }
    }
  });
}

}  // namespace kvant
