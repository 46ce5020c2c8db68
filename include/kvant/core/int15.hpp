#pragma once

/// @file
/// Arithmetic::int15: an activation as two int8 codes,
///
///     x = (128 * high + low) * absmax / 16256,   high in -127..127, low in -64..64
///
/// These are the normative rules, one row and one value at a time (src/numerics.md, "Two codes for
/// each activation"). The two codes go through the int8 kernels as two rows, so that sums of
/// integers stay exact. No outliers are taken apart: rounding an activation costs 1 / 32512 of its
/// whole row's absmax at most.

#include <cstdint>

#include "kvant/quantize.hpp"
#include "kvant/round_order.hpp"

namespace kvant {

/// What a row's absmax becomes: 127 * 128, so that the high code has LLM.int8()'s scale.
inline constexpr float kInt15Limit = 16256.0f;

/// How one row of activations becomes codes, and what the sums of these are multiplied by.
struct Int15Scale {
  float inverse;  ///< code = rne(x * inverse); 0: all codes of the row are 0
  float high;     ///< of sums of high codes: absmax / 127
  float low;      ///< of sums of low codes: high / 128
};

/// @param absmax  of the row; NaN for a row with a NaN or an infinity: its scales are NaN
constexpr Int15Scale int15_scale(float absmax) noexcept {
  if (!(absmax > 0.0f)) return {0.0f, absmax, absmax};
  if (absmax < 128.0f * kSmallestAbsmax) absmax = 128.0f * kSmallestAbsmax;
  const float high = absmax / 127.0f;
  return {kInt15Limit / absmax, high, high / 128.0f};
}

/// The two codes of an activation.
struct Int15Code {
  std::int8_t high;
  std::int8_t low;
};

/// @param x  not beyond the absmax that `inverse` is from; anything where inverse is 0
constexpr Int15Code int15_code(float x, float inverse) noexcept {
  if (!(inverse > 0.0f)) return {0, 0};
  const float code = round_half_even(x * inverse);
  const float high = round_half_even(code / 128.0f);
  return {static_cast<std::int8_t>(high), static_cast<std::int8_t>(code - high * 128.0f)};
}

}  // namespace kvant
