#pragma once

/// @file
/// tf32: float32's range with float16's 10 mantissa bits, as tensor cores read it. Stored in 32
/// bits whose last 13 are zero.

#include <bit>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

namespace detail {

constexpr std::uint32_t float_to_tf32_bits(float value) noexcept {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return (bits | 0x400000u) & ~0x1FFFu;  // quiet NaN
  return (bits + 0xFFFu + ((bits >> 13) & 1u)) & ~0x1FFFu;  // a carry overflows to infinity
}

}  // namespace detail

/// 1 sign, 8 exponent, 10 mantissa bits. float -> tf32 rounds to nearest, ties to even; subnormals
/// are kept, overflow goes to infinity, NaN stays NaN.
struct tf32 {
  std::uint32_t bits = 0;

  constexpr tf32() noexcept = default;
  constexpr explicit tf32(float value) noexcept : bits(detail::float_to_tf32_bits(value)) {}
  constexpr explicit operator float() const noexcept { return std::bit_cast<float>(bits); }

  /// The last 13 bits are dropped.
  static constexpr tf32 from_bits(std::uint32_t bits) noexcept {
    tf32 result;
    result.bits = bits & ~0x1FFFu;
    return result;
  }
};

static_assert(sizeof(tf32) == 4);

/// @cond
template <>
struct DTypeOf<tf32> {
  static constexpr DType value = DType::tf32;
};
/// @endcond

}  // namespace kvant
