// fp8, fp8-block: e4m3 elements times an fp32 scale, of an output, of the whole weight, or of a
// square of 128 x 128 (the last ones short), as compressed-tensors and DeepSeek's checkpoints have
// them:
//   scale = absmax / 448, raised to kSmallestAbsmax / 448, rounded to the type that a file holds
//   it in (float32 unless it is said); element = e4m3(w / scale), rounded to
//   nearest even, at most 448; w = element * scale
// Without a weight that is not 0: scale 1 and elements 0; with a NaN or an infinity: scale NaN.

#include <algorithm>
#include <bit>
#include <limits>

#include "formats/block_range.hpp"
#include "formats/rules.hpp"
#include "kvant/float8.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {
namespace {

constexpr float kLargest = 448.0f;

/// A scale as a type holds it: not zero, not infinite.
float rounded(float scale, DType type) noexcept {
  if (type == DType::float16) return stored_scale(scale);
  return type == DType::bfloat16 ? static_cast<float>(bfloat16(scale)) : scale;
}

/// @param absmax NaN where a weight is not finite
float scale_of(float absmax, DType type) noexcept {
  if (!(absmax <= std::numeric_limits<float>::max())) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (absmax == 0.0f) return 1.0f;
  const float scale = rounded(std::max(absmax, kSmallestAbsmax) / kLargest, type);
  if (scale * kLargest <= std::numeric_limits<float>::max()) return scale;
  // One place of the type less: what is finite stays so.
  const std::uint32_t place = type == DType::bfloat16 ? 1u << 16 : 1u;
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(scale) - place);
}

/// `rows` outputs from `first` on share the scales of their blocks.
void encode_together(const KernelTable& kernels, const FloatRows& x, std::int64_t first,
                     std::int64_t rows, const EncodeOptions& options,
                     const EncodedRows& to) noexcept {
  const std::int64_t block = options.block == 0 ? std::max<std::int64_t>(x.cols, 1) : options.block;
  const std::int64_t blocks = options.block == 0 ? 1 : (x.cols + block - 1) / block;
  for (std::int64_t b = 0; b < blocks; ++b) {
    const std::int64_t begin = b * block;
    const std::int64_t end = std::min(x.cols, begin + block);
    BlockRange range;
    for (std::int64_t r = first; r < first + rows && !options.one_scale; ++r) {
      range.add_row(kernels, x, r, begin, end);
    }
    const float absmax = options.one_scale ? options.given_absmax
                         : range.finite    ? range.absmax()
                                           : std::numeric_limits<float>::quiet_NaN();
    const float scale = scale_of(absmax, options.scale_type);
    for (std::int64_t r = 0; r < rows; ++r) {
      to.scales[r * blocks + b] = scale;
      auto* at = reinterpret_cast<std::uint8_t*>(to.codes + r * to.code_stride) + begin;
      for_floats(kernels, x, first + r, begin, end, [&](const float* values, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          *at++ = scale > 0.0f
                      ? float8_e4m3fn::from_float(values[i] / scale, Float8Overflow::saturate).bits
                      : std::uint8_t{0};
        }
      });
    }
  }
}

template <WeightFormat kFormat>
void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& options, const EncodedRows& to) noexcept {
  constexpr std::int64_t kTogether = describe(kFormat).block_rows;
  const std::int64_t row_scales = describe(kFormat).row_scales(x.cols, options.block);
  for (std::int64_t r = 0; r < rows; r += kTogether) {
    EncodedRows part = to;
    part.codes += r * to.code_stride;
    part.scales += r * row_scales;
    encode_together(kernels, x, first + r, std::min(kTogether, rows - r), options, part);
  }
}

void decode(const std::byte* codes, const RowScales& scales, std::int64_t k, float* to) noexcept {
  for (std::int64_t i = 0; i < k;) {
    const float scale = scales.scales[scales.at(i)];
    for (const std::int64_t end = scales.end_of(i, k); i < end; ++i) {
      const auto bits = std::to_integer<std::uint8_t>(codes[i]);
      to[i] = static_cast<float>(float8_e4m3fn::from_bits(bits)) * scale;
    }
  }
}

template <WeightFormat kFormat>
constexpr FormatRules kRules = {kFormat, &encode<kFormat>, &decode};

}  // namespace

const FormatRules& fp8_row_rules() noexcept {
  return kRules<WeightFormat::fp8_row>;
}
const FormatRules& fp8_block_rules() noexcept {
  return kRules<WeightFormat::fp8_block>;
}

}  // namespace kvant::detail
