#pragma once

/// @file
/// exact_decimal: every decimal of a binary floating-point number.

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/error.hpp"

namespace kvant {

namespace detail::decimal {

// A little-endian number of 32-bit limbs.
using Limbs = std::vector<std::uint32_t>;

// limbs = limbs * factor + carry; returns what no longer fits.
inline std::uint32_t multiply(Limbs& limbs, std::uint32_t factor) {
  std::uint64_t carry = 0;
  for (std::uint32_t& limb : limbs) {
    carry += static_cast<std::uint64_t>(limb) * factor;
    limb = static_cast<std::uint32_t>(carry);
    carry >>= 32;
  }
  return static_cast<std::uint32_t>(carry);
}

inline bool is_zero(const Limbs& limbs) {
  for (const std::uint32_t limb : limbs) {
    if (limb != 0) return false;
  }
  return true;
}

// mantissa << shift, in just enough limbs.
inline Limbs shifted(std::uint64_t mantissa, int shift) {
  Limbs limbs(static_cast<std::size_t>(shift / 32) + 3, 0);
  const auto at = static_cast<std::size_t>(shift / 32);
  const int rest = shift % 32;
  limbs[at] = static_cast<std::uint32_t>(mantissa << rest);
  limbs[at + 1] = static_cast<std::uint32_t>((mantissa >> (32 - rest)) & 0xFFFFFFFFu);
  limbs[at + 2] = rest == 0 ? 0 : static_cast<std::uint32_t>(mantissa >> (64 - rest));
  return limbs;
}

inline std::string integer_digits(Limbs limbs) {
  std::string digits;
  do {  // divide by ten, the remainder is the next digit from the right
    std::uint64_t remainder = 0;
    for (std::size_t i = limbs.size(); i-- > 0;) {
      remainder = (remainder << 32) | limbs[i];
      limbs[i] = static_cast<std::uint32_t>(remainder / 10);
      remainder %= 10;
    }
    digits.insert(digits.begin(), static_cast<char>('0' + remainder));
  } while (!is_zero(limbs));
  return digits;
}

// Adds one in the last place of a decimal number.
inline void increment(std::string& number) {
  std::size_t i = number.size();
  while (i > 0) {
    char& digit = number[--i];
    if (digit == '.') continue;
    if (digit != '9') {
      ++digit;
      return;
    }
    digit = '0';
  }
  number.insert(number.begin(), '1');
}

}  // namespace detail::decimal

/// The exact decimal expansion of a binary number, like printf("%.60f") but independent of the C
/// library and the locale: rounded to `digits` decimals (half to even on the exact value), or all
/// decimals there are where digits is negative. "inf", "-inf", "nan" for those.
/// @throws Error invalid_argument for more than 100,000 digits.
[[nodiscard]] inline std::string exact_decimal(double value, int digits = -1) {
  using namespace detail::decimal;
  if (digits > 100'000) {
    throw Error(ErrorCode::invalid_argument,
                "exact_decimal: " + std::to_string(digits) + " digits asked, 100000 at most");
  }
  if (std::isnan(value)) return "nan";
  std::string sign = std::signbit(value) ? "-" : "";
  if (std::isinf(value)) return sign + "inf";

  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto biased = static_cast<int>((bits >> 52) & 0x7FF);
  const std::uint64_t mantissa =
      (bits & 0xFFFFFFFFFFFFFull) | (biased != 0 ? 0x10000000000000ull : 0ull);
  const int exponent = (biased != 0 ? biased : 1) - 1075;  // value = mantissa * 2^exponent

  // The fraction, as a binary number whose point stands left of its highest limb.
  Limbs fraction;
  std::string number;
  if (exponent >= 0) {
    number = integer_digits(shifted(mantissa, exponent));
  } else {
    const int down = -exponent;
    const std::uint64_t whole = down < 64 ? mantissa >> down : 0;
    number = integer_digits(
        {static_cast<std::uint32_t>(whole), static_cast<std::uint32_t>(whole >> 32)});
    const std::uint64_t part = down < 64 ? mantissa & ((std::uint64_t{1} << down) - 1) : mantissa;
    const int limbs = (down + 31) / 32;
    fraction = shifted(part, limbs * 32 - down);
    fraction.resize(static_cast<std::size_t>(limbs));
  }

  if (digits < 0 ? !is_zero(fraction) : digits > 0) number += '.';
  for (int i = 0; digits < 0 ? !is_zero(fraction) : i < digits; ++i) {
    number += static_cast<char>('0' + multiply(fraction, 10));
  }
  const std::uint32_t twice = multiply(fraction, 2);  // 1: the rest is a half or more
  const bool odd = ((number.back() - '0') & 1) != 0;
  if (twice != 0 && (!is_zero(fraction) || odd)) increment(number);
  return sign + number;
}

}  // namespace kvant
