#pragma once

// What an int8 layer knows: packed codes, scales, bias, kept outlier columns. Built once, then
// immutable. int8_weights.cpp builds it, int8_forward.cpp multiplies by it.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvant/aligned_array.hpp"
#include "kvant/context.hpp"
#include "kvant/float_element.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/packed_matrix.hpp"

namespace kvant::detail {

struct Int8Weights {
  PackedMatrix codes;
  AlignedArray<float> absmax;      ///< [n padded], 0 in the padding
  AlignedArray<float> col_factor;  ///< [n padded]: absmax / 127
  AlignedArray<float> bias;        ///< [n padded], or empty
  DType bias_dtype = DType::float32;
  std::vector<std::int64_t> keep_columns;
  AlignedArray<std::uint16_t> kept;      ///< [n / nr][keep_columns][nr], half precision
  DType kept_dtype = DType::float16;     ///< bfloat16 where a weight exceeds fp16's range
  AlignedArray<std::int16_t> keep_mask;  ///< [k], 0 for a kept column; empty when there is none
  Int8Options options;                   ///< its keep_columns span is not used

  [[nodiscard]] std::int64_t n() const noexcept { return codes.n(); }
  [[nodiscard]] std::int64_t k() const noexcept { return codes.k(); }
  [[nodiscard]] float kept_weight(std::int64_t n, std::int64_t j) const noexcept;
  [[nodiscard]] bool is_parity() const noexcept {
    return options.arithmetic == Arithmetic::bitsandbytes;
  }
};

/// float32(1/127) as bitsandbytes writes it.
inline constexpr float kInverse127 = 7.874015718698502e-3f;
/// bitsandbytes' CPU constant for 1/127^2: 1.8e-5 too large, and part of its results.
inline constexpr float kParityScale = 6.200124e-05f;

Int8Weights quantize_weights(Context& context, const ConstAnyMatrix& weights,
                             const ConstAnyMatrix& bias, const Int8Options& options);

Int8Weights weights_from_codes(Context& context, MatrixView<const std::int8_t> codes,
                               std::span<const float> absmax, const ConstAnyMatrix& bias,
                               const Int8Options& options, const ConstAnyMatrix& kept_weights);

/// y = x W^T + b; everything validated.
void int8_forward(Context& context, const Int8Weights& weights, const ConstAnyMatrix& x,
                  const AnyMatrix& y);

/// One element as float.
inline float load_float(const ConstAnyMatrix& m, std::int64_t row, std::int64_t col) noexcept {
  return load_element(m.data, m.dtype, row * m.stride + col);
}
inline void store_float(const AnyMatrix& m, std::int64_t row, std::int64_t col,
                        float value) noexcept {
  store_element(m.data, m.dtype, row * m.stride + col, value);
}

/// Checks threshold and keep_columns against K. @throws Error invalid_argument, out_of_range
void check_options(const char* who, const Int8Options& options, std::int64_t k);

}  // namespace kvant::detail
