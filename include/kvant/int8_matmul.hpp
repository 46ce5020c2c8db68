#pragma once

/// @file
/// int8 matrix products with packed weights: what Int8Linear is built on, for callers that quantize
/// their activations themselves.
///
///     kvant::PackedMatrix w = kvant::pack_codes(context, weight_codes);      // once
///     kvant::int8_matmul(context, x_codes, w, sums);                         // int32, exact
///     kvant::int8_matmul(context, x_codes, w, row_scale, col_scale, y);      // scaled to float

#include <cstdint>
#include <span>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/packed_matrix.hpp"

namespace kvant {

/// Packs weight codes [N, K] (any int8, -128 included) for the context's kernels.
/// @throws Error invalid_argument, out_of_range (K > 131071), out_of_memory
[[nodiscard]] KVANT_API PackedMatrix pack_codes(Context& context,
                                                MatrixView<const std::int8_t> codes);

/// y [M, N] = a [M, K] w^T in int32; exact for every code on every kernel set.
/// @throws Error shape_mismatch, invalid_argument, unsupported (packed for other kernels)
KVANT_API void int8_matmul(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                           MatrixView<std::int32_t> y);

/// y = float(a w^T) * (row_scale[m] * col_scale[n]) + bias[n], in fp32, rounded once to y's type.
/// @param bias  [1, N] in fp32, fp16 or bf16, or empty
/// @throws Error shape_mismatch, invalid_argument, unsupported, out_of_memory
KVANT_API void int8_matmul(Context& context, MatrixView<const std::int8_t> a, const PackedMatrix& w,
                           std::span<const float> row_scale, std::span<const float> col_scale,
                           AnyMatrix y, ConstAnyMatrix bias = {});

}  // namespace kvant
