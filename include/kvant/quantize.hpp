#pragma once

/// @file
/// The normative rules of linear quantization, one value at a time. Everything else in kvant
/// (kernels, blocks, packed codes) must equal these bit for bit, and tests compare.
///
///     quantize     code = clamp(rne(x * inv_scale) + zero_point), NaN -> zero_point
///     dequantize   x = (code - zero_point) * scale
///
/// rne is round half to even; all steps are fp32 with one rounding each. Peers round in other
/// orders (RoundOrder).

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "kvant/config.hpp"
#include "kvant/round_order.hpp"

namespace kvant {

/// Rounds to the nearest integer, ties to even, in integer arithmetic: it depends neither on the
/// rounding mode nor on how the compiler contracts floating-point expressions.
constexpr float round_half_even(float x) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  const std::uint32_t sign = bits & 0x80000000u;
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude >= 0x4B000000u) return x;  // 2^23 and above is an integer; Inf; NaN
  if (magnitude <= 0x3F000000u) return std::bit_cast<float>(sign);               // up to 1/2
  if (magnitude < 0x3F800000u) return std::bit_cast<float>(sign | 0x3F800000u);  // below 1
  const std::uint32_t shift = 150u - (magnitude >> 23);  // 1..23 bits of fraction
  const std::uint32_t odd = (magnitude >> shift) & 1u;
  const std::uint32_t rounded = magnitude + (1u << (shift - 1u)) - 1u + odd;
  return std::bit_cast<float>(sign | ((rounded >> shift) << shift));
}

namespace detail {

/// Keeps a product from being contracted with the addition that follows it: a caller's own flags
/// (-march=haswell and g++'s default) would make one rounding of two.
template <class Float>
constexpr Float separate_rounding(Float value) noexcept {
  if (!std::is_constant_evaluated()) {
#if defined(__GNUC__) && defined(__x86_64__)
    __asm__("" : "+x"(value));
#elif defined(__GNUC__) && defined(__aarch64__)
    __asm__("" : "+w"(value));
#elif defined(__GNUC__)
    __asm__("" : "+m"(value));
#endif
  }
  return value;
}

}  // namespace detail

/// One code.
/// @param factor  inv_scale for the reciprocal orders, scale for RoundOrder::divide; > 0
/// @param lowest, highest  the code range; zero_point lies in it
/// A NaN gives the zero point (the code of 0); infinities and everything beyond saturate.
constexpr std::int32_t quantize_value(float x, float factor, std::int32_t zero_point,
                                      std::int32_t lowest, std::int32_t highest,
                                      RoundOrder order = RoundOrder::kvant) noexcept {
  if (x != x) return zero_point;
  const auto zero = static_cast<float>(zero_point);
  float code = 0;
  switch (order) {
    case RoundOrder::kvant: code = round_half_even(x * factor) + zero; break;
    case RoundOrder::divide: code = round_half_even(x / factor) + zero; break;
    case RoundOrder::torch_channel:
      code = round_half_even(detail::separate_rounding(x * factor) + zero);
      break;
    case RoundOrder::torch_tensor: code = round_half_even(std::fma(x, factor, zero)); break;
  }
  // Compared in float before the cast: converting what does not fit is undefined.
  if (code <= static_cast<float>(lowest)) return lowest;
  if (code >= static_cast<float>(highest)) return highest;
  return static_cast<std::int32_t>(code);
}

/// The real value of a code.
constexpr float dequantize_value(std::int32_t code, float scale, std::int32_t zero_point) noexcept {
  return (static_cast<float>(code) - static_cast<float>(zero_point)) * scale;
}

/// The smallest float whose reciprocal is finite: bits 0x00200001, 2^-128 * (1 + 2^-21).
inline constexpr float kSmallestScale = std::bit_cast<float>(0x00200001u);

/// What a range of values is quantized with.
struct ScaleChoice {
  float scale;      ///< dequantizes: x = (code - zero_point) * scale
  float inv_scale;  ///< quantizes: code = rne(x * inv_scale) + zero_point
  std::int32_t zero_point;
};

namespace detail {

constexpr float kFloatMax = std::numeric_limits<float>::max();

constexpr float next_down(float positive) noexcept {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(positive) - 1u);
}
constexpr float next_up(float positive) noexcept {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(positive) + 1u);
}

/// highest * kSmallestScale, rounded up: the absmax below which highest / absmax may overflow.
constexpr float smallest_absmax(float highest) noexcept {
  const double exact = static_cast<double>(highest) * static_cast<double>(kSmallestScale);
  const auto nearest = static_cast<float>(exact);
  return static_cast<double>(nearest) < exact ? next_up(nearest) : nearest;
}

/// Rounds a scale down until reach * scale is finite: finite input must dequantize to finite
/// output. Codes stay those of the unrounded scale.
constexpr float finite_scale(float scale, std::int32_t reach) noexcept {
  const auto distance = static_cast<float>(reach);
  if (distance * scale <= kFloatMax) return scale;
  scale = static_cast<float>(static_cast<double>(kFloatMax) / static_cast<double>(distance));
  while (!(distance * scale <= kFloatMax)) scale = next_down(scale);
  return scale;
}

}  // namespace detail

/// Symmetric: scale = absmax / highest, inv_scale = highest / absmax (one division each, so
/// inv_scale is not 1 / scale), codes -highest..highest, zero point 0.
/// absmax 0 gives scale 1; a tiny absmax is raised until both quotients are finite.
/// @param absmax  finite, >= 0
constexpr ScaleChoice symmetric_scale(float absmax, std::int32_t highest) noexcept {
  if (absmax == 0) return {1, 1, 0};
  const auto top = static_cast<float>(highest);
  if (!(top / absmax <= detail::kFloatMax)) absmax = detail::smallest_absmax(top);
  const float scale = absmax / top;
  return {detail::finite_scale(scale < kSmallestScale ? kSmallestScale : scale, highest),
          top / absmax, 0};
}

/// Affine: the range is extended to contain 0, scale = (max - min) / (highest - lowest) in double,
/// zero_point = clamp(lowest - rne(min / scale)), inv_scale = 1 / scale.
/// All zeros give scale 1 and zero point 0 (or the end of the range next to it).
/// @param min, max  finite, min <= max
constexpr ScaleChoice affine_scale(float min, float max, std::int32_t lowest,
                                   std::int32_t highest) noexcept {
  if (min > 0) min = 0;
  if (max < 0) max = 0;
  const std::int32_t origin = lowest > 0 ? lowest : highest < 0 ? highest : 0;
  if (min == 0 && max == 0) return {1, 1, origin};
  const double range = static_cast<double>(max) - static_cast<double>(min);
  auto scale =
      static_cast<float>(range / (static_cast<double>(highest) - static_cast<double>(lowest)));
  if (scale < kSmallestScale) scale = kSmallestScale;
  const float steps = round_half_even(min / scale);  // <= 0, at least lowest - highest
  std::int32_t zero_point = lowest - static_cast<std::int32_t>(steps);
  if (zero_point > highest) zero_point = highest;
  const std::int32_t below = zero_point - lowest;
  const std::int32_t above = highest - zero_point;
  return {detail::finite_scale(scale, below > above ? below : above), 1 / scale, zero_point};
}

}  // namespace kvant
