#pragma once

/// @file
/// The codebooks of 4-bit formats: the real values of the 16 codes, and the integers that stand for
/// them in int8 products. Constants, no code; sources: NF4 from QLoRA (arXiv 2305.14314) in the
/// digits that bitsandbytes stores, FP4 (sign, two bits of exponent, one of mantissa, / 12) as
/// there, E2M1 from OCP Microscaling Formats 1.0.

#include <cstdint>

#include "kvant/weight_format.hpp"

namespace kvant {

/// weight = value[code] * absmax of its block; in int8 products about
/// (integer[code] - zero) * (absmax / unit).
struct CodebookTable {
  float value[16];
  /// Not negative, at most 128: pairs of products with -127..127 stay within 16 bits on hardware
  /// that sums them there.
  std::uint8_t integer[16];
  std::int32_t zero;   ///< the integer of 0
  float inverse_unit;  ///< float32(1 / unit)
};

/// NF4 in 64ths: rounding the table adds 0.4 % to the error that NF4 itself makes on normal
/// weights. No larger unit fits the limit above.
inline constexpr CodebookTable kNf4 = {
    .value = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
              -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
              0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
              0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f,
              1.0f},
    .integer = {0, 19, 30, 39, 46, 52, 58, 64, 69, 74, 80, 86, 92, 100, 110, 128},
    .zero = 64,
    .inverse_unit = 1.0f / 64.0f};

/// FP4 in 12ths: exact, but for 1/192, which becomes 0.
inline constexpr CodebookTable kFp4 = {
    .value = {0.0f, 0.0052083335f, 0.6666667f, 1.0f, 0.33333334f, 0.5f, 0.16666667f, 0.25f, -0.0f,
              -0.0052083335f, -0.6666667f, -1.0f, -0.33333334f, -0.5f, -0.16666667f, -0.25f},
    .integer = {12, 12, 20, 24, 16, 18, 14, 15, 12, 12, 4, 0, 8, 6, 10, 9},
    .zero = 12,
    .inverse_unit = 1.0f / 12.0f};

/// OCP MX's e2m1 in halves: exact.
inline constexpr CodebookTable kE2m1 = {
    .value = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f, -2.0f,
              -3.0f, -4.0f, -6.0f},
    .integer = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0},
    .zero = 12,
    .inverse_unit = 1.0f / 2.0f};

/// The table of a codebook; null for Codebook::linear.
constexpr const CodebookTable* table_of(Codebook codebook) noexcept {
  switch (codebook) {
    case Codebook::nf4: return &kNf4;
    case Codebook::fp4: return &kFp4;
    case Codebook::e2m1: return &kE2m1;
    case Codebook::linear: break;
  }
  return nullptr;
}

}  // namespace kvant
