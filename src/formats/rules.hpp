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
  std::byte* codes;            ///< a row of k codes (or elements) every code_stride bytes
  std::ptrdiff_t code_stride;  ///< bytes; room for k rounded up to 64 codes
  float* scales;               ///< [rows][scales of a row]
  float* absmax;               ///< [rows]; only written where the format has one scale a row
};

struct EncodeOptions {
  std::int64_t block;  ///< weights that share a scale; 0: the whole row
  bool bitsandbytes;   ///< that library's arithmetic where it differs (QuantizeRowsArgs)
};

struct FormatRules {
  WeightFormat format;
  /// Rows of fp32, fp16 or bf16.
  void (*encode)(const KernelTable& kernels, const FloatRows& x, const EncodeOptions& options,
                 const EncodedRows& to) noexcept;
  /// The k values of one row.
  void (*decode)(const std::byte* codes, const float* scales, std::int64_t k, std::int64_t block,
                 float* to) noexcept;
};

/// The rules of a format; null where kvant does not pack it.
const FormatRules* rules_of(WeightFormat format) noexcept;

}  // namespace kvant::detail
