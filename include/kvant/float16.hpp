#pragma once

/// @file
/// float16 (IEEE binary16) and bfloat16: two-byte storage types with constexpr conversions.
///
/// Storage types hold bits and convert; they do no arithmetic, so that every rounding in a program
/// is one that somebody wrote. float -> half rounds to nearest, ties to even, keeps subnormals,
/// overflows to infinity (fp16: from 65520 on) and keeps NaN a NaN.
/// Cost: a dozen integer operations; bulk conversions belong to kvant::convert().

#include <bit>
#include <cstdint>

#include "kvant/config.hpp"

namespace kvant {

namespace detail {

constexpr std::uint16_t float_to_half_bits(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000u);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) {  // NaN: keep the top of the payload, make it quiet
    return static_cast<std::uint16_t>(sign | 0x7E00u | ((magnitude >> 13) & 0x3FFu));
  }
  if (magnitude >= 0x47800000u) return static_cast<std::uint16_t>(sign | 0x7C00u);  // >= 2^16
  if (magnitude >= 0x38800000u) {  // normal: rebias, round on the 13 bits that go
    const std::uint32_t rebiased = magnitude - (112u << 23);
    const std::uint32_t rounded = rebiased + 0xFFFu + ((rebiased >> 13) & 1u);
    return static_cast<std::uint16_t>(sign | (rounded >> 13));  // a carry makes 65520 infinite
  }
  if (magnitude < 0x33000000u) return sign;  // below half of the smallest subnormal
  const std::uint32_t exponent = magnitude >> 23;
  const std::uint32_t mantissa = (magnitude & 0x7FFFFFu) | 0x800000u;
  const std::uint32_t shift = 126u - exponent;  // 14..24
  const std::uint32_t kept = mantissa >> shift;
  const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
  const std::uint32_t half = 1u << (shift - 1u);
  const std::uint32_t up = (rest > half || (rest == half && (kept & 1u) != 0u)) ? 1u : 0u;
  return static_cast<std::uint16_t>(sign | (kept + up));
}

constexpr float half_bits_to_float(std::uint16_t half) noexcept {
  const std::uint32_t sign = (half & 0x8000u) * 0x10000u;
  const std::uint32_t exponent = (half >> 10) & 0x1Fu;
  std::uint32_t mantissa = half & 0x3FFu;
  if (exponent == 0x1Fu) {  // Inf, NaN (made quiet)
    const std::uint32_t quiet = mantissa != 0 ? 0x400000u : 0u;
    return std::bit_cast<float>(sign | 0x7F800000u | quiet | (mantissa << 13));
  }
  if (exponent != 0) {
    return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
  }
  if (mantissa == 0) return std::bit_cast<float>(sign);
  const auto shift = static_cast<std::uint32_t>(std::countl_zero(mantissa)) - 21u;
  mantissa = (mantissa << shift) & 0x3FFu;
  return std::bit_cast<float>(sign | ((113u - shift) << 23) | (mantissa << 13));
}

constexpr std::uint16_t float_to_bfloat_bits(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {  // NaN: truncate and make it quiet
    return static_cast<std::uint16_t>((bits >> 16) | 0x40u);
  }
  return static_cast<std::uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16);
}

constexpr float bfloat_bits_to_float(std::uint16_t bits) noexcept {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace detail

/// IEEE binary16: 1 sign, 5 exponent, 10 mantissa bits; largest finite value 65504.
struct float16 {
  std::uint16_t bits = 0;

  constexpr float16() noexcept = default;
  constexpr explicit float16(float value) noexcept : bits(detail::float_to_half_bits(value)) {}
  constexpr explicit operator float() const noexcept { return detail::half_bits_to_float(bits); }

  static constexpr float16 from_bits(std::uint16_t bits) noexcept {
    float16 result;
    result.bits = bits;
    return result;
  }
};

/// The upper half of binary32: 1 sign, 8 exponent, 7 mantissa bits; the range of float.
struct bfloat16 {
  std::uint16_t bits = 0;

  constexpr bfloat16() noexcept = default;
  constexpr explicit bfloat16(float value) noexcept : bits(detail::float_to_bfloat_bits(value)) {}
  constexpr explicit operator float() const noexcept { return detail::bfloat_bits_to_float(bits); }

  static constexpr bfloat16 from_bits(std::uint16_t bits) noexcept {
    bfloat16 result;
    result.bits = bits;
    return result;
  }
};

static_assert(sizeof(float16) == 2 && sizeof(bfloat16) == 2);

}  // namespace kvant
