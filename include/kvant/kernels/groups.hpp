#pragma once

/// @file
/// GroupPanels: where weights of 4 to 8 bits lie whose groups of inputs have a scale, and perhaps
/// an offset: int8-group, mxfp4 and the blocks of GGUF. One layout and one kernel for all of them.

#include <cstddef>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

/// A weight is (code - zero) * scale + offset; int8 codes are signed and have no zero.
///
/// Panels of nr outputs, in a panel unit after unit of k. A unit is a header, padded to a multiple
/// of `align`, and its codes:
///   [nr] scales  [nr] offsets (fp16, if any)  [unit / group][factors][nr] bytes, if any
///   8 bits: [k / 4][nr][4];  else the low 4 bits, [k / 8][nr][4] as in NibblePanels, and then
///   5 bits: [k / 32][nr][4], bit k / 4 % 8 of byte k % 4;
///   6 bits: [k / 16][nr][4], two bits from 2 * (k / 4 % 4) on of byte k % 4.
/// The last unit may be short where codes have 8 bits. Panels lie kPanelGap apart, so that streams
/// of several panels do not fall into the same cache sets.
struct GroupPanels {
  std::int32_t nr = 1;
  std::int32_t align = 1;
  std::int64_t k_padded = 0;     ///< a multiple of 32
  std::int64_t unit = 0;         ///< k under one header: a multiple of 32
  std::int64_t group = 0;        ///< k that share a scale: 16, or a multiple of 32; divides unit
  std::int32_t bits = 8;         ///< 4, 5, 6 or 8
  std::int32_t zero = 0;         ///< of codes below 8 bits
  DType scale = DType::float16;  ///< of a header's scales: float16, bfloat16, float32
  float factor = 1.0f;           ///< by which they are multiplied: a power of two
  bool offsets = false;
  /// Bytes for each group that multiply what the header has: 0; 1: the scale's, signed; 2: the
  /// scale's and the offset's, unsigned.
  std::int32_t factors = 0;
  bool e2m1 = false;  ///< codes stand for entries of kE2m1 in halves (kvant/codebook.hpp)

  static constexpr std::int64_t kPanelGap = 64;

  [[nodiscard, gnu::always_inline]] constexpr std::int64_t units() const noexcept {
    return unit == 0 ? 0 : (k_padded + unit - 1) / unit;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t scale_bytes() const noexcept {
    return scale == DType::float32 ? 4 : 2;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t offsets_at() const noexcept {
    return nr * scale_bytes();
  }
  /// Factor `which` (0: the scale's) of a group of the unit.
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t factors_at(std::int64_t group_of_unit,
                                                                      int which) const noexcept {
    return offsets_at() + (offsets ? nr * 2 : 0) + (group_of_unit * factors + which) * nr;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t group_of_unit(
      std::int64_t k) const noexcept {
    return k % unit / group;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t header_bytes() const noexcept {
    const std::int64_t bytes =
        offsets_at() + (offsets ? nr * 2 : 0) + (factors == 0 ? 0 : unit / group * factors * nr);
    return (bytes + align - 1) / align * align;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t unit_bytes() const noexcept {
    return header_bytes() + unit * bits / 8 * nr;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t panel_bytes() const noexcept {
    return units() * header_bytes() + k_padded * bits / 8 * nr + (nr > 1 ? kPanelGap : 0);
  }
  /// From the start of a panel: the unit of k.
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t unit_at(std::int64_t k) const noexcept {
    return k / unit * unit_bytes();
  }
  /// From the start of a panel: the byte with the low bits of code k of an output (0 .. nr - 1).
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t low_at(std::int64_t output,
                                                                  std::int64_t k) const noexcept {
    return unit_at(k) + header_bytes() + k % unit / (bits == 8 ? 4 : 8) * (nr * 4) + output * 4 +
           k % 4;
  }
  [[nodiscard, gnu::always_inline]] constexpr int low_shift(std::int64_t k) const noexcept {
    return bits == 8 || k % 8 < 4 ? 0 : 4;
  }
  /// The byte with the high bits, of codes that have 5 or 6.
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t high_at(std::int64_t output,
                                                                   std::int64_t k) const noexcept {
    return unit_at(k) + header_bytes() + unit / 2 * nr +
           k % unit / (bits == 5 ? 32 : 16) * (nr * 4) + output * 4 + k % 4;
  }
  [[nodiscard, gnu::always_inline]] constexpr int high_shift(std::int64_t k) const noexcept {
    return static_cast<int>(bits == 5 ? k / 4 % 8 : 2 * (k / 4 % 4));
  }
};

}  // namespace kvant
