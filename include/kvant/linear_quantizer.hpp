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

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/observer.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/quantized_matrix.hpp"

namespace kvant {

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
