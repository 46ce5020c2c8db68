#pragma once

/// @file
/// int4, uint4, int2 and uint2: one value in a byte of its own, and the packed form, two or four
/// values in a byte.
///
/// Packed order: element i of a row stands in bits [b * (i % n), b * (i % n) + b) of byte i / n,
/// n = 8 / b, so the first element is in the low bits; rows start at a byte.

#include <cstddef>
#include <cstdint>
#include <span>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

/// A small integer, one in a byte. Conversion from an integer saturates.
template <int Bits, bool Signed>
struct SmallInt {
  static constexpr int kBits = Bits;
  static constexpr std::int32_t kMin = Signed ? -(1 << (Bits - 1)) : 0;
  static constexpr std::int32_t kMax = Signed ? (1 << (Bits - 1)) - 1 : (1 << Bits) - 1;

  std::int8_t value = 0;

  constexpr SmallInt() noexcept = default;
  constexpr explicit SmallInt(std::int32_t number) noexcept
      : value(static_cast<std::int8_t>(number < kMin   ? kMin
                                       : number > kMax ? kMax
                                                       : number)) {}
  constexpr explicit operator std::int32_t() const noexcept { return value; }

  /// The value's bits, in the low end of a byte.
  [[nodiscard]] constexpr std::uint8_t to_bits() const noexcept {
    return static_cast<std::uint8_t>(value & ((1 << Bits) - 1));
  }
  /// From the low bits of a byte; the others are ignored.
  static constexpr SmallInt from_bits(std::uint8_t bits) noexcept {
    const std::int32_t field = bits & ((1 << Bits) - 1);
    return SmallInt(Signed && field > kMax ? field - (1 << Bits) : field);
  }
};

using int4 = SmallInt<4, true>;    ///< -8..7
using uint4 = SmallInt<4, false>;  ///< 0..15
using int2 = SmallInt<2, true>;    ///< -2..1
using uint2 = SmallInt<2, false>;  ///< 0..3

/// @cond
template <>
struct DTypeOf<int4> {
  static constexpr DType value = DType::int4;
};
template <>
struct DTypeOf<uint4> {
  static constexpr DType value = DType::uint4;
};
template <>
struct DTypeOf<int2> {
  static constexpr DType value = DType::int2;
};
template <>
struct DTypeOf<uint2> {
  static constexpr DType value = DType::uint2;
};
/// @endcond

/// Bytes of a packed row of `count` elements of `bits` (8, 4 or 2) bits each.
constexpr std::int64_t packed_bytes(std::int64_t count, int bits) noexcept {
  const std::int64_t per_byte = 8 / bits;
  return count / per_byte + (count % per_byte != 0 ? 1 : 0);
}

/// Element `index` of a packed row, sign-extended where the type is signed.
constexpr std::int32_t packed_get(const std::uint8_t* row, std::int64_t index, int bits,
                                  bool is_signed) noexcept {
  const std::int64_t per_byte = 8 / bits;
  const auto shift = static_cast<int>(index % per_byte) * bits;
  const std::int32_t field = (row[index / per_byte] >> shift) & ((1 << bits) - 1);
  return is_signed && (field >> (bits - 1)) != 0 ? field - (1 << bits) : field;
}

/// Sets element `index` of a packed row to the low bits of `value` and leaves its neighbours.
constexpr void packed_set(std::uint8_t* row, std::int64_t index, int bits,
                          std::int32_t value) noexcept {
  const std::int64_t per_byte = 8 / bits;
  const auto shift = static_cast<int>(index % per_byte) * bits;
  const std::int32_t mask = ((1 << bits) - 1) << shift;
  std::uint8_t& byte = row[index / per_byte];
  byte = static_cast<std::uint8_t>((byte & ~mask) | ((value << shift) & mask));
}

/// Packs count small integers into packed_bytes(count, T::kBits) bytes; unused bits become 0.
template <int Bits, bool Signed>
constexpr void pack(std::span<const SmallInt<Bits, Signed>> values, std::uint8_t* row) noexcept {
  const auto count = static_cast<std::int64_t>(values.size());
  for (std::int64_t i = 0; i < packed_bytes(count, Bits); ++i) row[i] = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    packed_set(row, i, Bits, values[static_cast<std::size_t>(i)].value);
  }
}

/// The inverse of pack.
template <int Bits, bool Signed>
constexpr void unpack(const std::uint8_t* row, std::span<SmallInt<Bits, Signed>> values) noexcept {
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = SmallInt<Bits, Signed>(packed_get(row, static_cast<std::int64_t>(i), Bits, Signed));
  }
}

}  // namespace kvant
