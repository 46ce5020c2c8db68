#pragma once

/// @file
/// The six int8 functions of bitsandbytes under their names, with the numerics of its CPU backend:
/// for checking against it step by step. Each mirrors bitsandbytes.functional.int8_NAME. For speed
/// use Int8Linear with Arithmetic::bitsandbytes, which is all of them in one pass.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::bitsandbytes {

/// What int8_vectorwise_quant returns.
struct VectorwiseQuantized {
  std::vector<std::int8_t> codes;  ///< [rows, cols]
  std::vector<float> row_stats;    ///< absmax of each row's non-outlier elements
  /// Ascending columns; nothing when threshold == 0 (as None there), empty when there is none.
  std::optional<std::vector<std::int64_t>> outlier_columns;
};

/// A [rows, cols] (fp32, fp16 or bf16; taken through fp16) to codes with one absmax per row.
/// Elements |a| >= threshold do not count for the absmax; their whole columns get code 0.
/// @throws Error invalid_argument (threshold negative or NaN), unsupported (dtype)
[[nodiscard]] KVANT_API VectorwiseQuantized vectorwise_quant(ConstAnyMatrix a,
                                                             float threshold = 0.0f);

/// out [rows, cols] fp32 = code * stats[row] * float32(1/127).
/// @throws Error shape_mismatch
KVANT_API void vectorwise_dequant(MatrixView<const std::int8_t> codes, std::span<const float> stats,
                                  MatrixView<float> out);

/// out [M, N] = ca [M, K] cb [N, K]^T in int32, exact. @throws Error shape_mismatch, out_of_range
KVANT_API void linear_matmul(MatrixView<const std::int8_t> ca, MatrixView<const std::int8_t> cb,
                             MatrixView<std::int32_t> out);

/// out = narrow(float(c) * (row_stats * col_stats) * 6.200124e-05f + bias); bias [1, N] or empty,
/// in fp32. @throws Error shape_mismatch
KVANT_API void mm_dequant(MatrixView<const std::int32_t> c, std::span<const float> row_stats,
                          std::span<const float> col_stats, AnyMatrix out,
                          ConstAnyMatrix bias = {});

/// linear_matmul, then mm_dequant.
KVANT_API void scaled_mm(MatrixView<const std::int8_t> ca, MatrixView<const std::int8_t> cb,
                         std::span<const float> row_stats, std::span<const float> col_stats,
                         AnyMatrix out, ConstAnyMatrix bias = {});

/// scaled_mm, then the outlier columns of `a` (in a's own type) times the int8 weights dequantized
/// and rounded to that type.
/// @throws Error shape_mismatch, out_of_range (a column that is not there)
KVANT_API void mixed_scaled_mm(ConstAnyMatrix a, MatrixView<const std::int8_t> ca,
                               MatrixView<const std::int8_t> cb, std::span<const float> row_stats,
                               std::span<const float> col_stats,
                               std::span<const std::int64_t> outlier_columns, AnyMatrix out,
                               ConstAnyMatrix bias = {});

}  // namespace kvant::bitsandbytes
