// mxfp4: e2m1 elements times a power of two for 32 neighbours of an output, as OCP Microscaling
// Formats 1.0, section 6.3, converts:
//   scale = 2^(floor(log2(absmax)) - 2), within 2^-127..2^127; element = e2m1(w / scale), rounded
//   to nearest even, at most 6; w = element * scale
// A block of zeros has the scale 2^-127 and elements 0; one with a NaN or an infinity has scale
// NaN.

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "formats/block_range.hpp"
#include "formats/rules.hpp"
#include "kvant/codebook.hpp"

namespace kvant::detail {
namespace {

constexpr int kLowestExponent = -127;
constexpr int kElementExponent = 2;  ///< of the largest element

/// floor(log2(x)) of a number above 0.
int exponent_of(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const auto exponent = static_cast<int>(bits >> 23);
  return exponent != 0 ? exponent - 127 : static_cast<int>(std::bit_width(bits)) - 150;
}

/// The power itself; -127 is below the smallest normal number.
float power_of_two(int exponent) noexcept {
  if (exponent == kLowestExponent) return std::bit_cast<float>(std::uint32_t{1} << 22);
  return std::bit_cast<float>(static_cast<std::uint32_t>(exponent + 127) << 23);
}

int scale_exponent(float absmax) noexcept {
  if (absmax == 0.0f) return kLowestExponent;
  return std::max(kLowestExponent, exponent_of(absmax) - kElementExponent);
}

/// Of w / scale. Between two elements the midpoint goes to the one with an even code.
std::uint8_t element_of(float y) noexcept {
  constexpr float kMidpoints[7] = {0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5.0f};
  const float magnitude = std::fabs(y);
  std::uint8_t code = 0;
  for (int i = 0; i < 7; ++i) {
    const bool up = i % 2 == 0 ? magnitude > kMidpoints[i] : magnitude >= kMidpoints[i];
    code = static_cast<std::uint8_t>(code + (up ? 1 : 0));
  }
  return static_cast<std::uint8_t>(code | (std::signbit(y) ? 8u : 0u));
}

void encode(const KernelTable& kernels, const FloatRows& x, std::int64_t first, std::int64_t rows,
            const EncodeOptions& options, const EncodedRows& to) noexcept {
  const std::int64_t blocks = (x.cols + options.block - 1) / options.block;
  for (std::int64_t r = 0; r < rows; ++r) {
    auto* codes = reinterpret_cast<std::uint8_t*>(to.codes + r * to.code_stride);
    for (std::int64_t b = 0; b < blocks; ++b) {
      const std::int64_t begin = b * options.block;
      const std::int64_t end = std::min(x.cols, begin + options.block);
      BlockRange range;
      range.add_row(kernels, x, first + r, begin, end);
      const int exponent = range.finite ? scale_exponent(range.absmax()) : 0;
      to.scales[r * blocks + b] =
          range.finite ? power_of_two(exponent) : std::numeric_limits<float>::quiet_NaN();
      // Two exact factors: the inverse of 2^-127 is beyond float's normal numbers.
      const float half = power_of_two(-exponent / 2);
      const float rest = power_of_two(-exponent - -exponent / 2);
      std::uint8_t* at = codes + begin;
      for_floats(kernels, x, first + r, begin, end, [&](const float* values, std::int64_t count) {
        for (std::int64_t i = 0; i < count; ++i) {
          *at++ = range.finite ? element_of(values[i] * half * rest) : std::uint8_t{0};
        }
      });
    }
  }
}

void decode(const std::byte* codes, const RowScales& scales, std::int64_t k, float* to) noexcept {
  for (std::int64_t i = 0; i < k;) {
    const float scale = scales.scales[scales.at(i)];
    for (const std::int64_t end = scales.end_of(i, k); i < end; ++i) {
      to[i] = kE2m1.value[std::to_integer<std::size_t>(codes[i])] * scale;
    }
  }
}

constexpr FormatRules kRules = {WeightFormat::mxfp4, &encode, &decode};

}  // namespace

const FormatRules& mxfp4_rules() noexcept {
  return kRules;
}

}  // namespace kvant::detail
