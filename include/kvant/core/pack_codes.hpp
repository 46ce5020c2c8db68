#pragma once

/// @file
/// Rows of 4- and 2-bit codes, from one a byte to packed and back (int4.hpp has the order).

#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/int4.hpp"

namespace kvant::detail {

// With the width known the compiler turns these loops into shifts of whole vectors.
template <int kBits>
void pack_bits(const std::uint8_t* codes, std::int64_t count, std::uint8_t* packed) noexcept {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1u;
  const std::int64_t whole = count / kPerByte;
  for (std::int64_t i = 0; i < whole; ++i) {
    unsigned byte = 0;
    for (int j = 0; j < kPerByte; ++j) byte |= (codes[i * kPerByte + j] & kMask) << (j * kBits);
    packed[i] = static_cast<std::uint8_t>(byte);
  }
  if (whole * kPerByte == count) return;
  packed[whole] = 0;
  for (std::int64_t i = whole * kPerByte; i < count; ++i) packed_set(packed, i, kBits, codes[i]);
}

template <int kBits, bool kSigned>
void unpack_bits(const std::uint8_t* packed, std::int64_t count, std::uint8_t* codes) noexcept {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1u;
  constexpr unsigned kSign = kSigned ? 1u << (kBits - 1) : 0u;
  const std::int64_t whole = count / kPerByte;
  for (std::int64_t i = 0; i < whole; ++i) {
    for (int j = 0; j < kPerByte; ++j) {
      const unsigned field = (packed[i] >> (j * kBits)) & kMask;
      codes[i * kPerByte + j] = static_cast<std::uint8_t>((field ^ kSign) - kSign);
    }
  }
  for (std::int64_t i = whole * kPerByte; i < count; ++i) {
    codes[i] = static_cast<std::uint8_t>(packed_get(packed, i, kBits, kSigned));
  }
}

/// Packs `count` codes of `bits` (4 or 2) bits, one per byte, into packed bytes; spare bits are 0.
inline void pack_codes(const std::uint8_t* codes, std::int64_t count, int bits,
                       std::uint8_t* packed) noexcept {
  if (bits == 4) return pack_bits<4>(codes, count, packed);
  pack_bits<2>(codes, count, packed);
}

/// The inverse, sign-extended where the type is signed.
inline void unpack_codes(const std::uint8_t* packed, std::int64_t count, int bits, bool is_signed,
                         std::uint8_t* codes) noexcept {
  if (bits == 4 && is_signed) return unpack_bits<4, true>(packed, count, codes);
  if (bits == 4) return unpack_bits<4, false>(packed, count, codes);
  if (is_signed) return unpack_bits<2, true>(packed, count, codes);
  unpack_bits<2, false>(packed, count, codes);
}

}  // namespace kvant::detail
