#pragma once

/// @file
/// Where the operands of a matrix product lie: activations in RowBlocks, weights in a WeightLayout,
/// and the tiles of the result that one call computes (TileRange).

#include <cstddef>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

/// What a GEMM multiplies on its activations' side. K is padded with the code of zero.
enum class ActivationFormat : std::uint8_t {
  s8,            ///< int8 codes
  u8_offset,     ///< int8 codes + 128, for instructions that multiply unsigned by signed
  f32,           ///< floats
  bf16,          ///< floats rounded to bfloat16, stored as such
  bf16_widened,  ///< floats rounded to bfloat16, stored as float32
};

/// Bytes of one element.
constexpr std::int64_t element_bytes(ActivationFormat format) noexcept {
  switch (format) {
    case ActivationFormat::f32:
    case ActivationFormat::bf16_widened: return 4;
    case ActivationFormat::bf16: return 2;
    case ActivationFormat::s8:
    case ActivationFormat::u8_offset: break;
  }
  return 1;
}

/// The cut of M rows into blocks of at most mr, as even as possible: 33 rows in blocks of 8 are
/// 7 + 7 + 7 + 6 + 6. The activations of a block lie together, in groups of `group` bytes of each
/// row in turn: [row bytes / group][rows of the block][group]; the blocks follow each other without
/// gaps. A block of one row is a plain row.
struct RowBlocks {
  std::int64_t m;
  std::int32_t mr;
  std::int32_t group = 4;

  [[nodiscard, gnu::always_inline]] constexpr std::int64_t count() const noexcept {
    return (m + mr - 1) / mr;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t first(
      std::int64_t block) const noexcept {
    return m * block / count();
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int32_t rows(std::int64_t block) const noexcept {
    return static_cast<std::int32_t>(first(block + 1) - first(block));
  }
  /// Where byte `byte` of row r of a block of `rows` rows is, from the start of the block.
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t offset(
      std::int32_t rows, std::int32_t r, std::int64_t byte) const noexcept {
    return (byte / group) * rows * group + std::int64_t{r} * group + byte % group;
  }
};

/// What the activations of a GEMM may be read beyond their end, in bytes.
inline constexpr std::int64_t kActivationSlack = 64;

/// Where weight (n, k) is in a packed matrix. Panels of nr outputs; inside a panel groups of kr
/// consecutive k lie together for each output:  [n / nr][k / kr][n % nr][k % kr].
/// Outputs are padded to nr and k to k_pad with zeros. nr = kr = 1 is plain row-major.
struct WeightLayout {
  std::int32_t nr = 1;
  std::int32_t kr = 1;
  std::int32_t k_pad = 1;  ///< K is rounded up to a multiple of this (itself a multiple of kr)

  friend constexpr bool operator==(const WeightLayout&, const WeightLayout&) = default;

  [[nodiscard]] constexpr std::int64_t padded_n(std::int64_t n) const noexcept {
    return (n + nr - 1) / nr * nr;
  }
  [[nodiscard]] constexpr std::int64_t padded_k(std::int64_t k) const noexcept {
    return (k + k_pad - 1) / k_pad * k_pad;
  }
  [[nodiscard]] constexpr std::int64_t panels(std::int64_t n) const noexcept {
    return (n + nr - 1) / nr;
  }
  [[nodiscard]] constexpr std::int64_t offset(std::int64_t n, std::int64_t k,
                                              std::int64_t k_padded) const noexcept {
    return (n / nr) * (nr * k_padded) + (k / kr) * (nr * kr) + (n % nr) * kr + k % kr;
  }
};

/// The tiles of an [m, n] product that one call computes: a range of row blocks times a range of
/// panels. K is never cut.
struct TileRange {
  std::int64_t m = 0;
  std::int64_t n = 0;
  std::int64_t k_padded = 0;
  std::int64_t block_begin = 0, block_end = 0;  ///< row blocks (RowBlocks)
  std::int64_t panel_begin = 0, panel_end = 0;  ///< panels of nr outputs (WeightLayout)
};

/// A float matrix to read: rows x cols of float32, float16 or bfloat16.
struct FloatRows {
  const void* data;
  DType dtype;
  std::int64_t rows;
  std::int64_t cols;
  std::ptrdiff_t stride;  ///< elements
};

}  // namespace kvant
