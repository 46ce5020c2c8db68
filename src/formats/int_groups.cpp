// int4, int3, int2: neighbours of a row share a scale, stored in fp16, and, unless quantization is
// symmetric, a zero point. As GPTQ quantizes (its "Quantizer", rounding to nearest), with the scale
// rounded before it is used; h = 15, 7 or 3 is the highest code, m = 8, 4 or 2 the middle:
//   affine     scale = fp16((max - min) / h), the range extended to 0; zero = rne(-min / scale)
//   symmetric  scale = fp16(2 absmax / h), zero = m
//   code = clamp(rne(w / scale) + zero, 0, h), w = (code - zero) * scale
// A block of zeros has scale 1 and codes m; one with a NaN or an infinity has scale NaN. (GPTQ's
// own symmetric range of a block without negative weights is a slip: half of it could not be
// reached.)

#include <algorithm>
#include <limits>

#include "formats/block_range.hpp"
#include "formats/rules.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {
namespace {

template <WeightFormat kFormat>
inline constexpr std::int32_t kMiddle = 1 << (describe(kFormat).bits - 1);
template <WeightFormat kFormat>
inline constexpr std::int32_t kHighest = 2 * kMiddle<kFormat> - 1;

struct Block {
  float scale;
  std::int32_t zero;
};

Block block_of(const BlockRange& range, bool zero_points, std::int32_t highest) noexcept {
  const std::int32_t middle = (highest + 1) / 2;
  if (!range.finite) return {std::numeric_limits<float>::quiet_NaN(), middle};
  if (range.absmax() == 0.0f) return {1.0f, middle};
  // In double: max - min of two large floats overflows.
  const double width =
      zero_points ? double{range.largest} - double{range.least} : 2.0 * double{range.absmax()};
  const float scale = stored_scale(static_cast<float>(width / highest));
  if (!zero_points) return {scale, middle};
  const float zero = round_half_even(-range.least / scale);
  return {scale, static_cast<std::int32_t>(std::clamp(zero, 0.0f, static_cast<float>(highest)))};
}

template <WeightFormat kFormat>
void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& options, const EncodedRows& to) noexcept {
  const std::int64_t block = options.block == 0 ? std::max<std::int64_t>(x.cols, 1) : options.block;
  const std::int64_t blocks = (x.cols + block - 1) / block;
  for (std::int64_t r = 0; r < rows; ++r) {
    auto* codes = reinterpret_cast<std::uint8_t*>(to.codes + r * to.code_stride);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t begin = b * block;
      const std::int64_t end = std::min(x.cols, begin + block);
      BlockRange range;
      range.add_row(kernels, x, first + r, begin, end);
      const Block found = block_of(range, options.zero_points, kHighest<kFormat>);
      to.scales[r * blocks + b] = found.scale;
      if (options.zero_points || describe(kFormat).needs_zero_points()) {
        to.zeros[r * blocks + b] = static_cast<std::uint8_t>(found.zero);
      }
      std::uint8_t* at = codes + begin;
      for_floats(kernels, x, first + r, begin, end, [&](const float* values, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          *at++ = static_cast<std::uint8_t>(
              range.finite ? quantize_value(values[i], found.scale, found.zero, 0,
                                            kHighest<kFormat>, RoundOrder::divide)
                           : kMiddle<kFormat>);
        }
      });
    }
  }
}

template <WeightFormat kFormat>
void decode(const std::byte* codes, const RowScales& scales, std::int64_t k, float* to) noexcept {
  for (std::int64_t i = 0; i < k;) {
    const std::int64_t block = scales.at(i);
    const std::int32_t zero = scales.zeros == nullptr ? kMiddle<kFormat> : scales.zeros[block];
    for (const std::int64_t end = scales.end_of(i, k); i < end; ++i) {
      to[i] =
          static_cast<float>(std::to_integer<std::int32_t>(codes[i]) - zero) * scales.scales[block];
    }
  }
}

template <WeightFormat kFormat>
constexpr FormatRules kRules = {kFormat, &encode<kFormat>, &decode<kFormat>};

}  // namespace

const FormatRules& int4_group_rules() noexcept {
  return kRules<WeightFormat::int4_group>;
}
const FormatRules& int3_group_rules() noexcept {
  return kRules<WeightFormat::int3_group>;
}
const FormatRules& int2_group_rules() noexcept {
  return kRules<WeightFormat::int2_group>;
}

}  // namespace kvant::detail
