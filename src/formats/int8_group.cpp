// int8_group: neighbours of a row share a scale, rounded to fp16 as it is stored; code =
// rne(w / scale), w = code * scale.
//   scale = fp16(absmax / 127), at most 65504 and at least the smallest subnormal where absmax > 0;
//   a block of zeros has scale 0 and codes 0; a block with a NaN or an infinity has scale NaN.

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/rules.hpp"
#include "kvant/float_element.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {
namespace {

float scale_of(float absmax) noexcept {
  if (!(absmax < std::numeric_limits<float>::infinity())) {
    return std::numeric_limits<float>::quiet_NaN();
  }
  const float scale = std::min(round_to(DType::float16, absmax / 127.0f), 65504.0f);
  return absmax > 0.0f ? std::max(scale, 0x1p-24f) : 0.0f;
}

void encode(const KernelTable& /*kernels*/, const FloatRows& x, const EncodeOptions& options,
            const EncodedRows& to) noexcept {
  const std::int64_t blocks = (x.cols + options.block - 1) / options.block;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    auto* codes = reinterpret_cast<std::int8_t*>(to.codes + r * to.code_stride);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t first = b * options.block;
      const std::int64_t last = std::min(x.cols, first + options.block);
      float absmax = 0.0f;
      for (std::int64_t c = first; c < last; ++c) {
        const float value = std::fabs(load_element(x.data, x.dtype, r * x.stride + c));
        if (!(value <= absmax) && absmax == absmax) absmax = value;  // NaN too, and it stays
      }
      const float scale = scale_of(absmax);
      to.scales[r * blocks + b] = scale;
      for (std::int64_t c = first; c < last; ++c) {
        const float value = load_element(x.data, x.dtype, r * x.stride + c);
        codes[c] = scale > 0.0f ? static_cast<std::int8_t>(quantize_value(value, scale, 0, -127,
                                                                          127, RoundOrder::divide))
                                : std::int8_t{0};
      }
    }
  }
}

void decode(const std::byte* codes, const float* scales, std::int64_t k, std::int64_t block,
            float* to) noexcept {
  const auto* row = reinterpret_cast<const std::int8_t*>(codes);
  for (std::int64_t first = 0; first < k; first += block, ++scales) {
    const std::int64_t last = std::min(k, first + block);
    for (std::int64_t i = first; i < last; ++i) to[i] = static_cast<float>(row[i]) * *scales;
  }
}

constexpr FormatRules kRules = {WeightFormat::int8_group, &encode, &decode};

}  // namespace

const FormatRules& int8_group_rules() noexcept {
  return kRules;
}

}  // namespace kvant::detail
