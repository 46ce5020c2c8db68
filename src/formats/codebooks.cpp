// nf4, fp4: the nearest entry of a table to w / absmax, blocks of the flattened weight, as
// bitsandbytes quantizes: y = w * (1 / absmax); between two entries the midpoint decides, itself
// going down. A block of zeros has absmax 0 and the codes of 0; one with a NaN or an infinity has
// absmax NaN. w = value * absmax.

#include <algorithm>
#include <limits>

#include "formats/block_range.hpp"
#include "formats/rules.hpp"
#include "kvant/codebook.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {
namespace {

/// The entries in the order of their values, equal ones in the order of their codes, and the
/// midpoints between them. (fp4 has two zeros: what is above 0 gets the second, as in
/// bitsandbytes.)
struct Sorted {
  std::uint8_t code[16] = {};
  float midpoint[15] = {};

  constexpr explicit Sorted(const CodebookTable& table) noexcept {
    for (std::uint8_t c = 0; c < 16; ++c) {
      int at = c;
      for (; at > 0 && table.value[code[at - 1]] > table.value[c]; --at) code[at] = code[at - 1];
      code[at] = c;
    }
    for (int i = 0; i < 15; ++i) {
      midpoint[i] = (table.value[code[i]] + table.value[code[i + 1]]) / 2.0f;
    }
  }

  /// Of a number; NaN gives the lowest.
  [[nodiscard]] std::uint8_t nearest(float y) const noexcept {
    int above = 0;
    for (int i = 0; i < 15; ++i) above += y > midpoint[i] ? 1 : 0;
    return code[above];
  }
};

/// absmax of block `block` of the flattened weight.
float absmax_of(const KernelTable& kernels, const FloatRows& x, std::int64_t block,
                std::int64_t size) noexcept {
  BlockRange range;
  std::int64_t at = block * size;
  const std::int64_t end = std::min(at + size, x.rows * x.cols);
  while (at < end) {
    const std::int64_t row = at / x.cols;
    const std::int64_t first = at - row * x.cols;
    const std::int64_t last = std::min(x.cols, first + (end - at));
    range.add_row(kernels, x, row, first, last);
    at += last - first;
  }
  if (!range.finite) return std::numeric_limits<float>::quiet_NaN();
  const float absmax = range.absmax();
  return absmax > 0.0f ? std::max(absmax, kSmallestAbsmax) : 0.0f;
}

template <const CodebookTable& kTable>
void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& options, const EncodedRows& to) noexcept {
  static constexpr Sorted kSorted(kTable);
  if (x.cols == 0) return;  // no scales either
  const std::int64_t row_scales = (x.cols + options.block - 1) / options.block + 1;
  std::int64_t known = -1;  // rows are read in order: a block that crosses them is scanned once
  float absmax = 0.0f;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t start = (first + r) * x.cols;
    auto* codes = reinterpret_cast<std::uint8_t*>(to.codes + r * to.code_stride);
    float* scales = to.scales + r * row_scales;
    std::fill_n(scales, row_scales, 0.0f);
    for (std::int64_t c = 0; c < x.cols;) {
      const std::int64_t block = (start + c) / options.block;
      if (block != known) absmax = absmax_of(kernels, x, block, options.block);
      known = block;
      *scales++ = absmax;
      const bool has_codes = absmax > 0.0f;
      const float inverse = has_codes ? 1.0f / absmax : 0.0f;
      const std::int64_t end = std::min(x.cols, (block + 1) * options.block - start);
      std::uint8_t* at = codes + c;
      for_floats(kernels, x, first + r, c, end, [&](const float* values, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          *at++ = kSorted.nearest(has_codes ? values[i] * inverse : 0.0f);
        }
      });
      c = end;
    }
  }
}

template <const CodebookTable& kTable>
void decode(const std::byte* codes, const RowScales& scales, std::int64_t k, float* to) noexcept {
  for (std::int64_t i = 0; i < k;) {
    const float absmax = scales.scales[scales.at(i)];
    for (const std::int64_t end = scales.end_of(i, k); i < end; ++i) {
      to[i] = kTable.value[std::to_integer<std::size_t>(codes[i])] * absmax;
    }
  }
}

template <WeightFormat kFormat, const CodebookTable& kTable>
constexpr FormatRules kRules = {kFormat, &encode<kTable>, &decode<kTable>};

}  // namespace

const FormatRules& nf4_rules() noexcept {
  return kRules<WeightFormat::nf4, kNf4>;
}
const FormatRules& fp4_rules() noexcept {
  return kRules<WeightFormat::fp4, kFp4>;
}

}  // namespace kvant::detail
