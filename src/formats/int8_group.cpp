// int8_group: neighbours of a row share a scale, rounded to fp16 as it is stored; code =
// rne(w / scale), w = code * scale.
//   scale = fp16(absmax / 127), at most 65504 and at least the smallest subnormal where absmax > 0;
//   a block of zeros has scale 0 and codes 0; a block with a NaN or an infinity has scale NaN.

#include <algorithm>
#include <limits>

#include "formats/block_range.hpp"
#include "formats/rules.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {
namespace {

float scale_of(const BlockRange& range) noexcept {
  if (!range.finite) return std::numeric_limits<float>::quiet_NaN();
  return range.absmax() > 0.0f ? stored_scale(range.absmax() / 127.0f) : 0.0f;
}

void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& options, const EncodedRows& to) noexcept {
  const std::int64_t blocks = (x.cols + options.block - 1) / options.block;
  for (std::int64_t r = 0; r < rows; ++r) {
    auto* codes = reinterpret_cast<std::int8_t*>(to.codes + r * to.code_stride);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t begin = b * options.block;
      const std::int64_t end = std::min(x.cols, begin + options.block);
      BlockRange range;
      range.add_row(kernels, x, first + r, begin, end);
      const float scale = scale_of(range);
      to.scales[r * blocks + b] = scale;
      std::int8_t* at = codes + begin;
      for_floats(kernels, x, first + r, begin, end, [&](const float* values, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          *at++ = scale > 0.0f ? static_cast<std::int8_t>(quantize_value(values[i], scale, 0, -127,
                                                                         127, RoundOrder::divide))
                               : std::int8_t{0};
        }
      });
    }
  }
}

void decode(const std::byte* codes, const RowScales& scales, std::int64_t k, float* to) noexcept {
  const auto* row = reinterpret_cast<const std::int8_t*>(codes);
  for (std::int64_t i = 0; i < k;) {
    const float scale = scales.scales[scales.at(i)];
    for (const std::int64_t end = scales.end_of(i, k); i < end; ++i) {
      to[i] = static_cast<float>(row[i]) * scale;
    }
  }
}

constexpr FormatRules kRules = {WeightFormat::int8_group, &encode, &decode};

}  // namespace

const FormatRules& int8_group_rules() noexcept {
  return kRules;
}

}  // namespace kvant::detail
