#pragma once

/// @file
/// Functions of bitsandbytes under their names, with the numerics of its CPU backend: for checking
/// against it step by step, and for what its files hold. The six of int8 mirror
/// bitsandbytes.functional.int8_NAME; for speed use Int8Linear with Arithmetic::bitsandbytes, which
/// is all of them in one pass. Those of 4 bits make what its 4-bit checkpoints store; layers that
/// run on it are Linear's formats nf4 and fp4.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/weight_format.hpp"

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

/// What quantize_4bit returns.
struct Quantized4bit {
  std::vector<std::uint8_t> codes;  ///< two a byte, the first in the high half; [ceil(n k / 2)]
  std::vector<float> absmax;        ///< of each block of the flattened weight
};

/// Weights [n, k] (fp32, fp16 or bf16) to 4-bit codes in blocks of the flattened weight.
/// @param format     nf4 or fp4
/// @param blocksize  a multiple of 32
/// @throws Error unsupported (another format, dtype), invalid_argument, out_of_memory
[[nodiscard]] KVANT_API Quantized4bit quantize_4bit(ConstAnyMatrix weights, WeightFormat format,
                                                    std::int64_t blocksize = 64);

/// What quantize_blockwise returns.
struct QuantizedBlocks {
  std::vector<std::uint8_t> codes;  ///< of the dynamic map
  std::vector<float> absmax;        ///< of each block
};
/// Values to 8-bit codes of the dynamic map, in blocks with an absmax each. As the CPU backend's,
/// whose codes of values near 0 are coarser than the map: 0 becomes 2e-5 of the absmax, but for
/// blocks of zeros, which stay.
/// @throws Error invalid_argument (a block below 1), not_finite, out_of_memory
[[nodiscard]] KVANT_API QuantizedBlocks quantize_blockwise(std::span<const float> values,
                                                           std::int64_t blocksize = 4096);
/// map[code] * absmax. @throws Error invalid_argument, shape_mismatch, out_of_memory
[[nodiscard]] KVANT_API std::vector<float> dequantize_blockwise(const QuantizedBlocks& quantized,
                                                                std::int64_t blocksize = 4096);

/// absmax as 8-bit codes of the dynamic map, in blocks of 256 ("double quantization",
/// compress_statistics).
struct NestedAbsmax {
  std::vector<std::uint8_t> codes;
  std::vector<float> absmax;  ///< of the absmax less `offset`, for each 256
  float offset = 0.0f;        ///< their mean, as torch sums it
};
/// @throws Error not_finite, out_of_memory
[[nodiscard]] KVANT_API NestedAbsmax nest_absmax(std::span<const float> absmax);
/// map[code] * absmax + offset. @throws Error shape_mismatch, out_of_memory
[[nodiscard]] KVANT_API std::vector<float> unnest_absmax(const NestedAbsmax& nested);

/// The signed dynamic map, 256 ascending values from -0.993 to 1.
[[nodiscard]] KVANT_API std::span<const float> dynamic_map() noexcept;

}  // namespace kvant::bitsandbytes
