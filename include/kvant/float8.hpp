#pragma once

/// @file
/// The 8-bit floating-point types, from one template: e4m3fn and e5m2 (OCP FP8, arXiv 2209.05433),
/// their fnuz forms (arXiv 2206.02915) and the e8m0fnu scale type (OCP MX 1.0). Like the half types
/// they hold bits and convert, and do no arithmetic.

#include <algorithm>
#include <bit>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

/// Which special values an 8-bit float has.
enum class Float8Flavour : std::uint8_t {
  ieee,  ///< infinities and NaNs as IEEE has them
  fn,    ///< finite: no infinity, NaN = all bits but the sign
  fnuz,  ///< finite, unsigned zero: no infinity, no -0; 0x80 is the only NaN
  fnu,   ///< finite, unsigned: an exponent and nothing else, no zero; 0xFF is the only NaN
};

/// Where a value beyond the largest finite one goes.
enum class Float8Overflow : std::uint8_t {
  torch,     ///< what torch's cast does since 2.12: e4m3fn saturates, the others as `special`
  saturate,  ///< the largest finite value, infinities too
  special,   ///< infinity where the type has one, else NaN (ml_dtypes; torch before 2.12)
};

/// An 8-bit float. Conversion from float rounds to nearest, ties to even, and keeps subnormals; a
/// NaN stays one. fnu follows torch: the sign is dropped, infinities become NaN, and halfway
/// between two powers of two rounds up.
template <int ExponentBits, int MantissaBits, int Bias, Float8Flavour Flavour>
struct Float8 {
  static constexpr int kExponentBits = ExponentBits;
  static constexpr int kMantissaBits = MantissaBits;
  static constexpr int kBias = Bias;
  static constexpr Float8Flavour kFlavour = Flavour;
  static constexpr bool kHasInfinity = Flavour == Float8Flavour::ieee;

  std::uint8_t bits = 0;

  constexpr Float8() noexcept = default;
  constexpr explicit Float8(float value) noexcept : bits(encode(value, Float8Overflow::torch)) {}
  constexpr explicit operator float() const noexcept { return decode(bits); }

  static constexpr Float8 from_bits(std::uint8_t bits) noexcept {
    Float8 result;
    result.bits = bits;
    return result;
  }
  static constexpr Float8 from_float(float value, Float8Overflow overflow) noexcept {
    return from_bits(encode(value, overflow));
  }

  /// The code of the largest finite value.
  static constexpr std::uint8_t max_code() noexcept {
    switch (Flavour) {
      case Float8Flavour::ieee: return (((1u << ExponentBits) - 1u) << MantissaBits) - 1u;
      case Float8Flavour::fn: return 0x7E;
      case Float8Flavour::fnuz: return 0x7F;
      case Float8Flavour::fnu: return 0xFE;
    }
    return 0;
  }
  static constexpr std::uint8_t nan_code() noexcept {
    switch (Flavour) {
      case Float8Flavour::ieee:
      case Float8Flavour::fn: return 0x7F;
      case Float8Flavour::fnuz: return 0x80;
      case Float8Flavour::fnu: return 0xFF;
    }
    return 0;
  }

 private:
  static constexpr std::uint8_t encode(float value, Float8Overflow overflow) noexcept {
    if constexpr (Flavour == Float8Flavour::fnu) {
      return encode_exponent(std::bit_cast<std::uint32_t>(value) & 0x7FFFFFFFu, overflow);
    } else {
      const auto float_bits = std::bit_cast<std::uint32_t>(value);
      const std::uint32_t magnitude = float_bits & 0x7FFFFFFFu;
      const std::uint32_t sign = (float_bits >> 24) & 0x80u;
      if (magnitude > 0x7F800000u) {
        return static_cast<std::uint8_t>(Flavour == Float8Flavour::fnuz ? 0x80u
                                                                        : sign | nan_code());
      }
      // value = mantissa * 2^(exponent - 150). In units of the result's last place it is an
      // integer after `shift` bits went; below the smallest normal that place stops moving.
      const std::int32_t exponent = std::max(static_cast<std::int32_t>(magnitude >> 23), 1);
      const std::uint32_t mantissa =
          (magnitude & 0x7FFFFFu) | (magnitude >= 0x800000u ? 0x800000u : 0u);
      const std::int32_t target = std::max(exponent - 127 + Bias, 1);
      const std::int32_t shift = std::min(target - (exponent - 127 + Bias) + 23 - MantissaBits, 25);
      const std::uint32_t kept = mantissa >> shift;
      const std::uint32_t rest = mantissa & ((1u << shift) - 1u);
      const std::uint32_t half = 1u << (shift - 1);
      const std::uint32_t up = (rest > half || (rest == half && (kept & 1u) != 0u)) ? 1u : 0u;
      // A carry out of the mantissa runs into the exponent, which is what it should do.
      const std::uint32_t code =
          (static_cast<std::uint32_t>(target - 1) << MantissaBits) + kept + up;
      if (code > max_code()) return overflowed(sign, overflow);
      if (Flavour == Float8Flavour::fnuz && code == 0) return 0;
      return static_cast<std::uint8_t>(sign | code);
    }
  }

  static constexpr std::uint8_t overflowed(std::uint32_t sign, Float8Overflow overflow) noexcept {
    if (overflow == Float8Overflow::saturate ||
        (overflow == Float8Overflow::torch && Flavour == Float8Flavour::fn)) {
      return static_cast<std::uint8_t>(sign | max_code());
    }
    if (Flavour == Float8Flavour::fnuz) return nan_code();
    return static_cast<std::uint8_t>(sign | (kHasInfinity ? max_code() + 1u : nan_code()));
  }

  static constexpr std::uint8_t encode_exponent(std::uint32_t magnitude,
                                                Float8Overflow overflow) noexcept {
    if (magnitude > 0x7F800000u) return nan_code();
    const std::uint32_t rest = magnitude & 0x7FFFFFu;
    // 1.5 * 2^e rounds up. Below the smallest normal float, 2^-127 itself stays what it is.
    const bool up = magnitude >= 0x800000u ? rest >= 0x400000u : rest > 0x400000u;
    const std::uint32_t code = (magnitude >> 23) + (up ? 1u : 0u);
    if (code > max_code()) {
      return overflow == Float8Overflow::saturate ? max_code() : nan_code();
    }
    return static_cast<std::uint8_t>(code);
  }

  static constexpr float decode(std::uint8_t code) noexcept {
    constexpr std::uint32_t kQuietNan = 0x7FC00000u;
    if constexpr (Flavour == Float8Flavour::fnu) {
      if (code == 0xFF) return std::bit_cast<float>(kQuietNan);
      // 2^-127 is a subnormal float.
      return std::bit_cast<float>(code == 0 ? 0x400000u : static_cast<std::uint32_t>(code) << 23);
    } else {
      if (Flavour == Float8Flavour::fnuz && code == 0x80) return std::bit_cast<float>(kQuietNan);
      const std::uint32_t sign = (code & 0x80u) << 24;
      const std::uint32_t magnitude = code & 0x7Fu;
      if (magnitude > max_code()) {
        const bool infinite = kHasInfinity && magnitude == max_code() + 1u;
        return std::bit_cast<float>(sign | (infinite ? 0x7F800000u : kQuietNan));
      }
      const std::uint32_t exponent = magnitude >> MantissaBits;
      std::uint32_t mantissa = magnitude & ((1u << MantissaBits) - 1u);
      constexpr std::uint32_t kRebias = 127 - Bias;
      if (exponent != 0) {
        return std::bit_cast<float>(sign | ((exponent + kRebias) << 23) |
                                    (mantissa << (23 - MantissaBits)));
      }
      if (mantissa == 0) return std::bit_cast<float>(sign);
      // Subnormal here, normal as a float: move the leading one to the implicit place.
      const std::uint32_t lift =
          static_cast<std::uint32_t>(std::countl_zero(mantissa)) - (31 - MantissaBits);
      mantissa = (mantissa << lift) & ((1u << MantissaBits) - 1u);
      return std::bit_cast<float>(sign | ((1 + kRebias - lift) << 23) |
                                  (mantissa << (23 - MantissaBits)));
    }
  }
};

/// 4 exponent, 3 mantissa bits; -448..448, no infinity.
using float8_e4m3fn = Float8<4, 3, 7, Float8Flavour::fn>;
/// 5 exponent, 2 mantissa bits; -57344..57344 and infinities.
using float8_e5m2 = Float8<5, 2, 15, Float8Flavour::ieee>;
/// 4 exponent, 3 mantissa bits; -240..240, one NaN, no -0.
using float8_e4m3fnuz = Float8<4, 3, 8, Float8Flavour::fnuz>;
/// 5 exponent, 2 mantissa bits; -57344..57344, one NaN, no -0.
using float8_e5m2fnuz = Float8<5, 2, 16, Float8Flavour::fnuz>;
/// Powers of two from 2^-127 to 2^127: a scale.
using float8_e8m0fnu = Float8<8, 0, 127, Float8Flavour::fnu>;

static_assert(sizeof(float8_e4m3fn) == 1 && sizeof(float8_e8m0fnu) == 1);

/// @cond
template <>
struct DTypeOf<float8_e4m3fn> {
  static constexpr DType value = DType::float8_e4m3fn;
};
template <>
struct DTypeOf<float8_e5m2> {
  static constexpr DType value = DType::float8_e5m2;
};
template <>
struct DTypeOf<float8_e4m3fnuz> {
  static constexpr DType value = DType::float8_e4m3fnuz;
};
template <>
struct DTypeOf<float8_e5m2fnuz> {
  static constexpr DType value = DType::float8_e5m2fnuz;
};
template <>
struct DTypeOf<float8_e8m0fnu> {
  static constexpr DType value = DType::float8_e8m0fnu;
};
/// @endcond

}  // namespace kvant
