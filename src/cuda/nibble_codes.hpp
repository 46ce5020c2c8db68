#pragma once

// Codes of 4 bits in the rows that NibblePanels describes for kr = 32: where they lie, what they
// are multiplied as, and what they stand for.

#include "cuda/outliers.hpp"
#include "kvant/codebook.hpp"

namespace kvant {
namespace {

inline constexpr int kNibbleChunk = 128;  ///< k whose codes lie together, in lines of 64 bytes
inline constexpr int kNibbleRun = 32;     ///< k of one product of the matrix units
inline constexpr std::uint32_t kLowNibbles = 0x0F0F0F0Fu;

/// Where 16 bytes lie in a row of 128 in shared memory, so that the eight rows of an ldmatrix are
/// in different banks.
KVANT_DEVICE int swizzled_piece(int row, int piece) {
  return (piece ^ (row & 7)) << 4;
}
KVANT_DEVICE int swizzled_128(int row, int piece) {
  return row * 128 + swizzled_piece(row, piece);
}

/// The rows of a call's weights. (NibblePanels' rules, divided once.)
struct NibbleRows {
  const unsigned char* b;
  std::int64_t row_bytes;
  std::uint32_t group;      ///< k that share a scale
  std::uint32_t scales_at;  ///< from the start of a row: [groups]
  std::uint32_t zeros_at;   ///< the same; 0: none
  std::uint32_t scale_bytes;

  KVANT_DEVICE static NibbleRows of(const GemmArgs& g) {
    const NibblePanels& w = g.nibbles;
    const auto k_padded = static_cast<std::uint32_t>(w.k_padded);
    const auto group = static_cast<std::uint32_t>(w.group);
    const auto scale_bytes = static_cast<std::uint32_t>(w.scale_bytes);
    const auto align = static_cast<std::uint32_t>(w.align);
    const std::uint32_t groups = (k_padded + group - 1) / group;
    const std::uint32_t zeros_at = k_padded / 2 + groups * scale_bytes;
    const std::uint32_t bytes = zeros_at + (w.zero_points ? groups : 0);
    return {static_cast<const unsigned char*>(g.b),
            std::int64_t{(bytes + align - 1) / align * align},
            group,
            k_padded / 2,
            w.zero_points ? zeros_at : 0,
            scale_bytes};
  }
  KVANT_DEVICE const unsigned char* row(std::int64_t n) const { return b + n * row_bytes; }
  KVANT_DEVICE std::uint32_t group_of(int k) const { return static_cast<std::uint32_t>(k) / group; }
  KVANT_DEVICE const unsigned char* scale(const unsigned char* row, std::uint32_t g) const {
    return row + scales_at + g * scale_bytes;
  }
  KVANT_DEVICE std::uint32_t zero(const unsigned char* row, std::uint32_t g,
                                  std::uint32_t without) const {
    return zeros_at == 0 ? without : row[zeros_at + g];
  }
};

/// A word of eight codes as the two operands of a product: the low halves of its bytes, the high
/// halves.
struct NibblePair {
  std::uint32_t low, high;
};

/// 16 bytes, from which codes choose.
struct ByteTable {
  std::uint32_t w0, w1, w2, w3;

  /// Bytes of a codebook's rows: of its integers without their zero (plane 4), or of the bits of
  /// its values.
  static constexpr ByteTable of(const CodebookTable& book, int plane) noexcept {
    std::uint32_t w[4] = {};
    for (int i = 0; i < 16; ++i) {
      const std::uint32_t bits =
          plane == 4 ? static_cast<std::uint32_t>(book.integer[i] - book.zero)
                     : __builtin_bit_cast(std::uint32_t, book.value[i]) >> (8 * plane);
      w[i / 4] |= (bits & 0xFFu) << (8 * (i % 4));
    }
    return {w[0], w[1], w[2], w[3]};
  }
};

/// The bytes that the four lowest nibbles of `codes` choose, the lowest first. (Selectors with the
/// highest bit would repeat a sign: both halves of the table are asked with three bits.)
template <std::uint32_t kW0, std::uint32_t kW1, std::uint32_t kW2, std::uint32_t kW3>
KVANT_DEVICE std::uint32_t look_up(std::uint32_t codes) {
  const std::uint32_t in_half = codes & 0x7777u;
  return device::permute_bytes(device::permute_bytes(kW0, kW1, in_half),
                               device::permute_bytes(kW2, kW3, in_half),
                               0x3210u | (codes >> 1 & 0x4444u));
}

/// Codes as they are, scales in fp16.
struct LinearCodes {
  /// What is subtracted from codes where groups have no zero points; 0: integers have no zero.
  static constexpr std::uint32_t kZero = 8;

  /// Codes without their zero, as signed bytes. @param zeros  four times the group's
  KVANT_DEVICE static NibblePair integers(std::uint32_t codes, std::uint32_t zeros) {
    constexpr std::uint32_t kSigns = 0x80808080u;  // keep bytes from borrowing from each other
    return {(((codes & kLowNibbles) | kSigns) - zeros) ^ kSigns,
            (((codes >> 4 & kLowNibbles) | kSigns) - zeros) ^ kSigns};
  }
  /// With their zero, for sums from which it is taken afterwards.
  KVANT_DEVICE static NibblePair with_zero(std::uint32_t codes) {
    return {codes & kLowNibbles, codes >> 4 & kLowNibbles};
  }
  KVANT_DEVICE static float scale(const unsigned char* at) {
    return device::half_to_float(*reinterpret_cast<const std::uint16_t*>(at));
  }
  KVANT_DEVICE static float product_scale(float scale) { return scale; }
  KVANT_DEVICE static float value(std::uint32_t code, std::uint32_t zero) {
    return static_cast<float>(static_cast<std::int32_t>(code) - static_cast<std::int32_t>(zero));
  }
};

/// Codes through a table, scales in fp32.
template <const CodebookTable& kBook>
struct BookCodes {
  static constexpr std::uint32_t kZero = 0;
  static constexpr float kInverseUnit = kBook.inverse_unit;
  /// Made by the compiler for the host: devices see the numbers.
  static constexpr ByteTable kTables[5] = {ByteTable::of(kBook, 0), ByteTable::of(kBook, 1),
                                           ByteTable::of(kBook, 2), ByteTable::of(kBook, 3),
                                           ByteTable::of(kBook, 4)};

  template <int kPlane>
  KVANT_DEVICE static std::uint32_t bytes(std::uint32_t codes) {
    return look_up<kTables[kPlane].w0, kTables[kPlane].w1, kTables[kPlane].w2, kTables[kPlane].w3>(
        codes);
  }
  KVANT_DEVICE static NibblePair integers(std::uint32_t codes, std::uint32_t /*zeros*/) {
    // Low and high codes alternate; two permutations part them.
    const std::uint32_t first = bytes<4>(codes), second = bytes<4>(codes >> 16);
    return {device::permute_bytes(first, second, 0x6420u),
            device::permute_bytes(first, second, 0x7531u)};
  }
  KVANT_DEVICE static NibblePair with_zero(std::uint32_t codes) { return integers(codes, 0); }
  KVANT_DEVICE static float scale(const unsigned char* at) {
    return *reinterpret_cast<const float*>(at);
  }
  KVANT_DEVICE static float product_scale(float scale) {
    return device::multiply(scale, kInverseUnit);
  }
  KVANT_DEVICE static float value(std::uint32_t code, std::uint32_t /*zero*/) {
    return device::bits_float((bytes<0>(code) & 0xFFu) | (bytes<1>(code) & 0xFFu) << 8 |
                              (bytes<2>(code) & 0xFFu) << 16 | (bytes<3>(code) & 0xFFu) << 24);
  }
};

/// Single weights, as Int8Weights has them.
template <class Codes>
struct NibbleWeights {
  struct Raw {
    std::uint32_t code = 0, zero = 0;
    float scale = 0.0f;
  };
  KVANT_DEVICE static Raw load(const GemmArgs& g, std::int64_t n, std::int64_t k) {
    const NibbleRows rows = NibbleRows::of(g);
    const unsigned char* const row = rows.row(n);
    const auto at = static_cast<int>(k);
    const int byte =
        at / kNibbleChunk * 64 + at % 16 / 4 * 16 + at % kNibbleChunk / kNibbleRun * 4 + at % 4;
    const std::uint32_t group = rows.group_of(at);
    return {std::uint32_t{row[byte]} >> (at % 32 < 16 ? 0 : 4) & 15u,
            rows.zero(row, group, Codes::kZero), Codes::scale(rows.scale(row, group))};
  }
  KVANT_DEVICE static float value(const GemmArgs&, const Raw& raw) {
    return device::multiply(Codes::value(raw.code, raw.zero), raw.scale);
  }
};

}  // namespace
}  // namespace kvant
