#pragma once

// What a weight format means: how rows of floats become codes and scales, and what value a code
// stands for. Scalar, normative, the law that kernels and files follow; one file for each format in
// this folder, a line each in rules.cpp.

#include <cstdint>

#include "kvant/kernel_table.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::detail {

/// Where the codes and scales of some rows go.
struct EncodedRows {
  std::byte* codes;            ///< a row of k codes (a byte each) or elements
  std::ptrdiff_t code_stride;  ///< bytes between rows; room for k rounded up to 64 codes
  float* scales;               ///< [rows][row_scales]
  std::uint8_t* zeros;         ///< the same of zero points; only where they are asked for or needed
  float* absmax;               ///< [rows]; only written where the format has one scale a row
};

struct EncodeOptions {
  std::int64_t block;         ///< weights that share a scale; 0: the whole row
  bool bitsandbytes;          ///< that library's arithmetic where it differs (QuantizeRowsArgs)
  bool zero_points;           ///< one for each scale, in formats that may have them
  bool one_scale = false;     ///< fp8: for the whole weight,
  float given_absmax = 0.0f;  ///< whose largest magnitude this is; NaN: it is not finite
  DType scale_type = DType::float32;  ///< fp8, fp8-block: what scales are rounded to
};

/// The scales of one row, block by block.
struct RowScales {
  const float* scales;
  const std::uint8_t* zeros;  ///< null: the format's one zero
  std::int64_t block;         ///< 0: one for the row
  std::int64_t phase;         ///< elements that the first block has before this row

  [[nodiscard]] std::int64_t at(std::int64_t k) const noexcept {
    return block == 0 ? 0 : (phase + k) / block;
  }
  /// The end of the block that begins at k or before.
  [[nodiscard]] std::int64_t end_of(std::int64_t k, std::int64_t columns) const noexcept {
    if (block == 0) return columns;
    const std::int64_t end = (at(k) + 1) * block - phase;
    return end < columns ? end : columns;
  }
};

/// Elements of the block that row `row` begins in, before the row.
constexpr std::int64_t phase_of(const WeightFormatInfo& info, std::int64_t row, std::int64_t k,
                                std::int64_t block) noexcept {
  return info.axis == BlockAxis::flattened && block > 0 ? row * k % block : 0;
}

struct FormatRules {
  WeightFormat format;
  /// The rows [first, first + rows) of x (fp32, fp16 or bf16), which is the whole weight. Null for
  /// the blocks of GGUF.
  void (*encode)(const KernelTable& kernels, const FloatRows& x, std::int64_t first,
                 std::int64_t rows, const EncodeOptions& options, const EncodedRows& to) noexcept;
  /// The k values of one row, from its codes (a byte each) or its blocks of GGUF.
  void (*decode)(const std::byte* codes, const RowScales& scales, std::int64_t k,
                 float* to) noexcept;
};

/// The rules of a format; null where kvant does not pack it.
const FormatRules* rules_of(WeightFormat format) noexcept;

}  // namespace kvant::detail
