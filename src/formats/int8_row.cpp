// int8_row: codes = rne(w * (127 / absmax)) with the absmax of each output, as bitsandbytes' 8-bit
// weights; w = code * scale, scale = absmax / 127 (numerics.md, "LLM.int8()").

#include <limits>

#include "formats/rules.hpp"

namespace kvant::detail {
namespace {

void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& options, const EncodedRows& to) noexcept {
  kernels.quantize_rows({.x = x.slice(first, rows),
                         .bitsandbytes = options.bitsandbytes,
                         .threshold = std::numeric_limits<float>::infinity(),
                         .keep_mask = nullptr,
                         .given_absmax = nullptr,
                         .codes = to.codes,
                         .format = ActivationFormat::s8,
                         .code_stride = to.code_stride,
                         .k_padded = (x.cols + 63) / 64 * 64,
                         .absmax = to.absmax,
                         .outlier_columns = nullptr});
  for (std::int64_t r = 0; r < rows; ++r) to.scales[r] = to.absmax[r] / 127.0f;
}

void decode(const std::byte* codes, const RowScales& scales, std::int64_t k, float* to) noexcept {
  const auto* row = reinterpret_cast<const std::int8_t*>(codes);
  for (std::int64_t i = 0; i < k; ++i) to[i] = static_cast<float>(row[i]) * scales.scales[0];
}

constexpr FormatRules kRules = {WeightFormat::int8_row, &encode, &decode};

}  // namespace

const FormatRules& int8_row_rules() noexcept {
  return kRules;
}

}  // namespace kvant::detail
