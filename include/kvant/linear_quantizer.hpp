#pragma once

/// @file
/// Linear quantization as the textbook has it:
///
///     auto params = kvant::choose_params(x, kvant::int8_symmetric, kvant::per_row);
///     auto q      = kvant::quantize(x, params);
///     auto back   = kvant::dequantize<float>(q);
///     auto error  = kvant::compare(x, back);
///
/// x is float32, float16 or bfloat16 with any row stride. int8 and uint8 with one scale per tensor,
/// row or column run through the kernels a whole range of rows at a time; blocks of other shapes
/// and packed codes run through the same kernels piece by piece. The work is split over the
/// context's threads; results do not depend on their number, nor on the instruction set.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/int4.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/observer.hpp"
#include "kvant/quant_params.hpp"

namespace kvant {

/// Codes with the parameters that made them. int8 and uint8 take a byte each; int4, uint4, int2 and
/// uint2 are packed two or four to a byte, the first in the low bits, every row starting at a byte
/// (int4.hpp). A moved-from one is [0, 0].
class KVANT_API QuantizedMatrix {
 public:
  QuantizedMatrix() = default;
  /// From codes that are there already, packed as above.
  /// @throws Error shape_mismatch (bytes, parameters), invalid_argument (a code outside the range)
  QuantizedMatrix(std::int64_t rows, std::int64_t cols, std::vector<std::uint8_t> bytes,
                  QuantParams params);

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] DType dtype() const noexcept { return params_.scheme.dtype; }
  [[nodiscard]] const QuantParams& params() const noexcept { return params_; }
  [[nodiscard]] BlockShape block() const noexcept { return params_.block; }
  /// The codes as stored.
  [[nodiscard]] const std::vector<std::uint8_t>& bytes() const noexcept { return bytes_; }
  /// Bytes between two rows.
  [[nodiscard]] std::int64_t row_bytes() const noexcept;
  /// Bytes of codes and parameters.
  [[nodiscard]] std::size_t memory_footprint() const noexcept {
    return bytes_.size() + params_.bytes();
  }

  /// One code; r and c are not checked.
  [[nodiscard]] std::int32_t code(std::int64_t r, std::int64_t c) const noexcept;
  /// The 8-bit codes in place; T is std::int8_t or std::uint8_t, as dtype() says.
  /// @throws Error unsupported where they are of another type
  template <class T>
  [[nodiscard]] MatrixView<const T> codes() const {
    return {static_cast<const T*>(codes_of(dtype_of<T>)), rows_, cols_};
  }
  /// All codes, one each, row by row.
  [[nodiscard]] std::vector<std::int32_t> unpack() const;
  /// All codes, one a byte, into the caller's memory: `codes` is int8 for signed schemes, uint8 for
  /// unsigned ones, of this shape.
  /// @throws Error shape_mismatch, unsupported (dtype)
  void unpack_to(AnyMatrix codes) const;

 private:
  struct Unchecked {};
  QuantizedMatrix(Unchecked, std::int64_t rows, std::int64_t cols, QuantParams params);
  [[nodiscard]] const void* codes_of(DType dtype) const;
  friend KVANT_API QuantizedMatrix quantize(Context&, ConstAnyMatrix, QuantParams);
  friend KVANT_API QuantizedMatrix requantize(Context&, const QuantizedMatrix&, QuantParams);

  std::vector<std::uint8_t> bytes_;
  detail::MovedSize rows_;
  detail::MovedSize cols_;
  QuantParams params_;
};

/// The scale (and zero point) of each block from its smallest and largest value.
/// @throws Error not_finite (unless ignored), unsupported (dtype), invalid_argument
[[nodiscard]] KVANT_API QuantParams choose_params(Context& context, ConstAnyMatrix x,
                                                  const QuantScheme& scheme,
                                                  BlockShape block = per_tensor,
                                                  NonFinite non_finite = NonFinite::error);
/// The same on default_context().
[[nodiscard]] KVANT_API QuantParams choose_params(ConstAnyMatrix x, const QuantScheme& scheme,
                                                  BlockShape block = per_tensor,
                                                  NonFinite non_finite = NonFinite::error);

/// Codes of x. NaN gives the zero point, infinities saturate.
/// @throws Error as check_params; unsupported (dtype), out_of_memory
[[nodiscard]] KVANT_API QuantizedMatrix quantize(Context& context, ConstAnyMatrix x,
                                                 QuantParams params);
/// The same on default_context().
[[nodiscard]] KVANT_API QuantizedMatrix quantize(ConstAnyMatrix x, QuantParams params);

/// Codes of x into the caller's memory, one per byte: `codes` is int8 or uint8 like the scheme's
/// type, or its one-byte storage type (int4, ...), of x's shape. It must not overlap x.
/// @throws Error as quantize; shape_mismatch, invalid_argument (overlap)
KVANT_API void quantize_to(Context& context, ConstAnyMatrix x, const QuantParams& params,
                           AnyMatrix codes);
/// The same on default_context().
KVANT_API void quantize_to(ConstAnyMatrix x, const QuantParams& params, AnyMatrix codes);

/// The real values into y: float32, float16 or bfloat16, rounded once from fp32.
/// @throws Error shape_mismatch, unsupported (dtype), invalid_argument
KVANT_API void dequantize(Context& context, const QuantizedMatrix& q, AnyMatrix y);
/// The same on default_context().
KVANT_API void dequantize(const QuantizedMatrix& q, AnyMatrix y);

/// The real values as a fresh matrix.
template <class T = float>
[[nodiscard]] Matrix<T> dequantize(const QuantizedMatrix& q) {
  Matrix<T> y(q.rows(), q.cols());
  dequantize(q, AnyMatrix(y));
  return y;
}

/// Codes of the same values under other parameters; equals quantize(dequantize<float>(q), params)
/// without the matrix in between.
/// @throws Error as quantize
[[nodiscard]] KVANT_API QuantizedMatrix requantize(Context& context, const QuantizedMatrix& q,
                                                   QuantParams params);
/// The same on default_context().
[[nodiscard]] KVANT_API QuantizedMatrix requantize(const QuantizedMatrix& q, QuantParams params);

/// What quantizing does to x: dequantize(quantize(x, params)) into y, which may be x itself (same
/// type and stride) but not overlap it otherwise.
/// @throws Error as quantize and dequantize
KVANT_API void fake_quantize(Context& context, ConstAnyMatrix x, const QuantParams& params,
                             AnyMatrix y);
/// The same on default_context().
KVANT_API void fake_quantize(ConstAnyMatrix x, const QuantParams& params, AnyMatrix y);

/// The same as a fresh matrix.
template <class T = float>
[[nodiscard]] Matrix<T> fake_quantize(ConstAnyMatrix x, const QuantParams& params) {
  Matrix<T> y(x.rows < 0 ? 0 : x.rows, x.cols < 0 ? 0 : x.cols);
  fake_quantize(x, params, AnyMatrix(y));
  return y;
}

}  // namespace kvant
