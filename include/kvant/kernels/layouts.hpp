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

/// What kernels need to know beside the codes of activations. Of weights with a scale for each
/// group it is their sums: codes of weights are not negative there, what they stand for is code -
/// zero, and zero * sum is what a product has too much. For each block of rows [parts][rows of the
/// block], one 32-bit word each.
enum class ActivationSums : std::uint8_t {
  none,
  /// Of each 32 codes: those at k % 4 < 2 in the low half, the others in the high half.
  pairs,
  /// Of all codes before the part: k_padded / 32 + 1 parts, the first 0.
  running,
  /// The same for parts of 16.
  running16,
  /// For int8 weights multiplied by instructions that sum pairs of products in 16 bits: pairs of
  /// codes (k even, k + 1) that such a sum might not hold are cut to what it does hold, and what
  /// was cut off is listed, row after row, as the kernels read it (src/cpu/micro/split_pairs.hpp).
  split,
};

/// Codes of a part.
constexpr std::int64_t codes_of_part(ActivationSums kind) noexcept {
  return kind == ActivationSums::running16 ? 16 : 32;
}

/// Words of the sums of one row; block b of rows has its sums from first(b) * this on.
constexpr std::int64_t sums_of_row(std::int64_t k_padded, ActivationSums kind) noexcept {
  // A list of every eighth group of 4 codes: longer ones cost more than slower steps.
  if (kind == ActivationSums::split) return 4 + k_padded / 32 * 2;
  return k_padded / codes_of_part(kind) + 1;
}

/// What the activations of a GEMM may be read beyond their end, in bytes.
inline constexpr std::int64_t kActivationSlack = 64;

/// Where weight (n, k) is in a packed matrix. Panels of nr outputs; inside a panel groups of kr
/// consecutive k lie together for each output:  [n / nr][k / kr][n % nr][k % kr].
/// Outputs are padded to nr and k to k_pad with zeros. nr = kr = 1 is plain row-major.
/// Codes of 4 bits lie in NibblePanels of the same nr, groups of other codes in GroupPanels
/// (kernels/groups.hpp).
struct WeightLayout {
  std::int32_t nr = 1;
  std::int32_t kr = 1;
  std::int32_t k_pad = 1;  ///< K is rounded up to a multiple of this (itself a multiple of kr)
  std::int32_t align = 1;  ///< bytes; of the codes of 4 bits of a group

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

/// Where weights of 4 bits lie, their scales beside them: panels of nr outputs, in a panel group
/// after group of k. A group is a header, padded to a multiple of `align`, and its codes:
///   [nr] scales  [nr] zero points (u8, if any)  |  [k / 8][nr][4]
/// Byte j of step s of an output has code k = 8 s + j in its low bits, 8 s + 4 + j in the high
/// ones. The last group may be short. Panels lie kPanelGap apart, so that streams of several panels
/// do not fall into the same cache sets.
///
/// With kr = 32 (and nr = 1: a panel is an output) codes lie as the matrix instructions of GPUs
/// take them, and headers apart from them:
///   [k / 128][4 lanes][4 runs of 32 k][4]  |  [groups] scales  [groups] zero points
/// padded to `align` as a whole. Byte j of a lane's word has code k = 4 lane + j of the run in its
/// low bits, k = 16 + 4 lane + j in the high ones. So 16 bytes are what a lane multiplies in four
/// products, none of which mixes two groups.
struct NibblePanels {
  std::int32_t nr = 1;
  std::int32_t kr = 8;
  std::int32_t align = 1;
  std::int64_t k_padded = 0;     ///< a multiple of 8 (of 128 where kr is 32)
  std::int64_t group = 0;        ///< k that share a scale: a multiple of 32
  std::int32_t scale_bytes = 0;  ///< 2: fp16, 4: fp32, 0: none in here
  bool zero_points = false;      ///< false: the format's one zero for all

  static constexpr std::int64_t kPanelGap = 64;

  [[nodiscard, gnu::always_inline]] constexpr std::int64_t groups() const noexcept {
    return group == 0 ? 0 : (k_padded + group - 1) / group;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t zeros_offset() const noexcept {
    return std::int64_t{nr} * scale_bytes;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t header_bytes() const noexcept {
    const std::int64_t bytes = zeros_offset() + (zero_points ? nr : 0);
    return (bytes + align - 1) / align * align;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t group_bytes() const noexcept {
    return header_bytes() + group / 2 * nr;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t panel_bytes() const noexcept {
    if (kr == 32) {
      const std::int64_t bytes = k_padded / 2 + groups() * (scale_bytes + (zero_points ? 1 : 0));
      return (bytes + align - 1) / align * align;
    }
    return groups() * header_bytes() + k_padded / 2 * nr + (nr > 1 ? kPanelGap : 0);
  }
  /// From the start of a panel: the group of k (kr = 8).
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t group_at(std::int64_t k) const noexcept {
    return k / group * group_bytes();
  }
  /// From the start of a panel: the scale and the zero point of the group of k, of an output
  /// (0 .. nr - 1).
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t scale_at(std::int64_t output,
                                                                    std::int64_t k) const noexcept {
    if (kr == 32) return k_padded / 2 + k / group * scale_bytes;
    return group_at(k) + output * scale_bytes;
  }
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t zero_at(std::int64_t output,
                                                                   std::int64_t k) const noexcept {
    if (kr == 32) return k_padded / 2 + groups() * scale_bytes + k / group;
    return group_at(k) + zeros_offset() + output;
  }
  /// From the start of a panel: the byte with code k of an output (0 .. nr - 1).
  [[nodiscard, gnu::always_inline]] constexpr std::int64_t code_at(std::int64_t output,
                                                                   std::int64_t k) const noexcept {
    if (kr == 32) return k / 128 * 64 + k % 16 / 4 * 16 + k % 128 / 32 * 4 + k % 4;
    return group_at(k) + header_bytes() + k % group / 8 * (nr * 4) + output * 4 + k % 4;
  }
  /// Where in its byte code k is.
  [[nodiscard, gnu::always_inline]] constexpr int shift_at(std::int64_t k) const noexcept {
    return k % kr < kr / 2 ? 0 : 4;
  }
  /// The same, for kr = 8.
  [[nodiscard, gnu::always_inline]] static constexpr int shift_of(std::int64_t k) noexcept {
    return k % 8 < 4 ? 0 : 4;
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

  /// Rows [first, first + count).
  [[nodiscard, gnu::always_inline]] constexpr FloatRows slice(std::int64_t first,
                                                              std::int64_t count) const noexcept {
    const std::int64_t bytes = first * stride * (dtype == DType::float32 ? 4 : 2);
    return {static_cast<const std::byte*>(data) + bytes, dtype, count, cols, stride};
  }
};

}  // namespace kvant
