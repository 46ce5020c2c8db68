#pragma once

// Few rows by weights in GroupPanels (gemm_groups.hpp): codes are taken apart in registers, where
// they are multiplied, instead of once for many rows in the first-level cache, and scales where
// they are added, so that memory bounds it. The same integers, scales made in the order of
// group_scale() and group_offset(): the same bits.
//
// Pairs of products of 4 bits stay in 16 bits for a group of 32 k where they are summed so
// (gemm_nibbles.hpp): 15 * 127 * 16 = 30480; of more bits for 8 k: 63 * 127 * 4 = 32004.

#include "cpu/micro/gemm.hpp"
#include "cpu/micro/group_codes.hpp"

namespace kvant {
namespace {

/// Rows of activations that are multiplied so.
template <class S>
inline constexpr int kDecodeRows = S::kRows < kFewRows ? S::kRows : kFewRows;

/// Kinds of codes, by how they are taken apart.
enum class GroupCodes : std::uint8_t { four, e2m1, five, six, eight };

/// One group of k of the panels of a tile.
struct DecodeGroup {
  const unsigned char* a;
  const unsigned char* low;     ///< codes, or their low 4 bits
  const unsigned char* high;    ///< the other bits of those that have 5 or 6
  const unsigned char* header;  ///< of its unit
  std::ptrdiff_t stride;        ///< from one of the tile's panels to the next: of all of these
  const std::int32_t* before;   ///< sums of the rows' activations up to the group,
  const std::int32_t* after;    ///< and with it
  std::int32_t zero;
  std::int64_t length;  ///< k

  // How its scales are made, and offsets, if there are any (offsets_at != 0).
  bool wide;                  ///< scales of 32 bits, of 8-bit codes
  float factor;               ///< of scales in bf16
  std::ptrdiff_t offsets_at;  ///< from the header
  std::ptrdiff_t factors_at;  ///< from the header, [nr] of scales, [nr] of offsets; 0: none
  const float* unit_scales;   ///< [panels][nr], where there are factors
  const float* unit_offsets;
};

/// The bits above the low four of the codes of step i (four k), in their place. at: the word of the
/// step's 16 or 32 k.
template <class S, GroupCodes kCodes>
[[gnu::always_inline]] inline typename S::I high_bits(const unsigned char* at, int i) noexcept {
  const typename S::I word = S::load_i32(reinterpret_cast<const std::int32_t*>(at));
  const int from = kCodes == GroupCodes::five ? i : 2 * i;
  const typename S::I moved = from < 4   ? S::shift_left(word, 4 - from)
                              : from > 4 ? S::shift_right(word, from - 4)
                                         : word;
  return S::and_i(moved, S::set1_i(kCodes == GroupCodes::five ? 0x10101010 : 0x30303030));
}

/// The scales of one vector of outputs. j: of the tile's vectors, at: its panel's header.
template <class S, GroupCodes kCodes, bool kFactors>
[[gnu::always_inline]] inline typename S::F decode_scale(const DecodeGroup& t, int j,
                                                         const unsigned char* at) noexcept {
  const int v = j % S::kVectors * S::kLanes;
  const auto* half = reinterpret_cast<const std::uint16_t*>(at + v * 2);
  if constexpr (kFactors) {
    const unsigned char* const factors = at + t.factors_at + v;
    const typename S::I factor = kCodes == GroupCodes::six
                                     ? S::load_i8(reinterpret_cast<const std::int8_t*>(factors))
                                     : S::load_u8(factors);
    return S::mul(S::load_f32(t.unit_scales + j * S::kLanes), S::to_f32(factor));
  } else if constexpr (kCodes == GroupCodes::e2m1) {
    return S::mul(S::load_bf16(half), S::set1(t.factor));
  } else {
    if (t.wide) return S::load_f32(reinterpret_cast<const float*>(at + v * 4));
    return S::load_f16(half);
  }
}

template <class S, bool kFactors>
[[gnu::always_inline]] inline typename S::F decode_offset(const DecodeGroup& t, int j,
                                                          const unsigned char* at) noexcept {
  const int v = j % S::kVectors * S::kLanes;
  if constexpr (kFactors) {
    const typename S::I factor = S::load_u8(at + t.factors_at + S::kVectors * S::kLanes + v);
    return S::mul(S::load_f32(t.unit_offsets + j * S::kLanes), S::to_f32(factor));
  } else {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(at + t.offsets_at + v * 2));
  }
}

/// acc += the integers of a group, by its scales and offsets.
template <class S, GroupCodes kCodes, int kRows, int kPanels, bool kFactors>
[[gnu::always_inline]] inline void add_group(const DecodeGroup& t,
                                             typename S::I (&c)[kRows][kPanels * S::kVectors],
                                             float* acc) noexcept {
  constexpr int kColumns = kPanels * S::kVectors;
  KVANT_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    const unsigned char* const at = t.header + (j / S::kVectors) * t.stride;
    const typename S::F scale = decode_scale<S, kCodes, kFactors>(t, j, at);
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      float* const to = acc + (r * kColumns + j) * S::kLanes;
      S::store_f32(to, S::fma(S::to_f32(c[r][j]), scale, S::load_f32(to)));
    }
  }
  if constexpr (kCodes == GroupCodes::four || kCodes == GroupCodes::five) {
    if (t.offsets_at == 0) return;
    typename S::F activations[kRows];
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      activations[r] = S::set1(static_cast<float>(t.after[r] - t.before[r]));
    }
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const unsigned char* const at = t.header + (j / S::kVectors) * t.stride;
      const typename S::F offset = decode_offset<S, kFactors>(t, j, at);
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        float* const to = acc + (r * kColumns + j) * S::kLanes;
        S::store_f32(to, S::fma(activations[r], offset, S::load_f32(to)));
      }
    }
  }
}

/// acc[kRows][kPanels * S::kVectors * S::kLanes] += the group's products. A function of its own,
/// never inlined: inside a larger loop nest the accumulators would be spilled.
template <class S, GroupCodes kCodes, int kRows, int kPanels>
[[gnu::noinline]] void decode_group(const DecodeGroup& t, float* acc) noexcept {
  constexpr int kColumns = kPanels * S::kVectors;
  constexpr int kLine = S::kVectors * S::kBytesB;  // of a panel: 4 k, or the nibbles of 8
  constexpr bool kBytes = kCodes == GroupCodes::eight;
  constexpr bool kHigh = kCodes == GroupCodes::five || kCodes == GroupCodes::six;
  constexpr bool kNarrow = kCodes == GroupCodes::four && S::kPairLimit != 0;
  constexpr int kRun = kCodes == GroupCodes::five ? 32 : 16;  // k of a word of high bits
  const typename S::I table = S::load_table(kOwnE2m1.integer);
  const std::ptrdiff_t stride = t.stride;
  const unsigned char* a = t.a;
  const unsigned char* low = t.low;
  const unsigned char* high = t.high;
  typename S::I c[kRows][kColumns];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const auto activations = static_cast<std::uint32_t>(t.after[r] - t.before[r]);
    const typename S::I start = kNarrow
                                    ? S::zero_i()
                                    : S::set1_i(static_cast<std::int32_t>(
                                          0u - static_cast<std::uint32_t>(t.zero) * activations));
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) c[r][j] = start;
  }
  // Two words of codes of vector j: those of step i, and of i + 1 (8 bits: of step i alone).
  const auto take_apart = [&](int i, int j, typename S::I(&w)[2]) noexcept {
    const std::ptrdiff_t column = (j / S::kVectors) * stride + (j % S::kVectors) * S::kBytesB;
    const typename S::I word = S::load_b(
        reinterpret_cast<const std::int8_t*>(low + column + (kBytes ? i : i / 2) * kLine));
    if constexpr (kBytes) {
      w[0] = group_operand<S, true>(word);
      return;
    }
    w[0] = S::low_nibbles(word);
    w[1] = S::high_nibbles(word);
    if constexpr (kCodes == GroupCodes::e2m1) {
      w[0] = S::lookup(table, w[0]);
      w[1] = S::lookup(table, w[1]);
    }
    if constexpr (kHigh) {
      w[0] = S::xor_i(w[0], high_bits<S, kCodes>(high + column, i));
      w[1] = S::xor_i(w[1], high_bits<S, kCodes>(high + column, i + 1));
    }
  };
  const auto broadcast = [&](int i, int r, typename S::I(&x)[2]) noexcept {
    x[0] = S::broadcast_a(a + (i * kRows + r) * kGroupBytes);
    if constexpr (!kBytes) x[1] = S::broadcast_a(a + ((i + 1) * kRows + r) * kGroupBytes);
  };
  const auto multiply = [](typename S::I sum, const typename S::I(&w)[2],
                           const typename S::I(&x)[2]) noexcept {
    if constexpr (kBytes) {
      return S::keep(group_dot<S, true>(sum, w[0], x[0]));
    } else if constexpr (kNarrow) {
      return S::keep(S::dot16(S::dot16(sum, w[0], x[0]), w[1], x[1]));
    } else if constexpr (S::kPairLimit != 0) {
      const typename S::I pairs = S::dot16(S::dot16(S::zero_i(), w[0], x[0]), w[1], x[1]);
      return S::keep(S::add_i(sum, S::sum_pairs16(pairs)));
    } else {
      return S::keep(S::dot(S::dot(sum, w[0], x[0]), w[1], x[1]));
    }
  };
  for (std::int64_t k = t.length; k > 0; k -= kRun) {
    KVANT_UNROLL
    for (int i = 0; i < kRun / 4; i += kBytes ? 1 : 2) {
      if constexpr (kRows < kColumns) {  // the fewer operands are held, the others pass through
        typename S::I x[kRows][2];
        KVANT_UNROLL
        for (int r = 0; r < kRows; ++r) broadcast(i, r, x[r]);
        KVANT_UNROLL
        for (int j = 0; j < kColumns; ++j) {
          typename S::I w[2];
          take_apart(i, j, w);
          KVANT_UNROLL
          for (int r = 0; r < kRows; ++r) c[r][j] = multiply(c[r][j], w, x[r]);
        }
      } else {
        typename S::I w[kColumns][2];
        KVANT_UNROLL
        for (int j = 0; j < kColumns; ++j) take_apart(i, j, w[j]);
        KVANT_UNROLL
        for (int r = 0; r < kRows; ++r) {
          typename S::I x[2];
          broadcast(i, r, x);
          KVANT_UNROLL
          for (int j = 0; j < kColumns; ++j) c[r][j] = multiply(c[r][j], w[j], x);
        }
      }
    }
    if constexpr (kPanels < S::panels(1)) {
      fetch_streams<S, kPanels, kRun / (kBytes ? 4 : 8) * kLine>(low, stride);
    }
    a += kRun * kRows;
    low += kRun / (kBytes ? 4 : 8) * kLine;
    high += kLine;
  }
  typename S::I d[kRows][kColumns];  // g++ would keep c in memory if it were used on
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      d[r][j] = S::keep(c[r][j]);
      if constexpr (kNarrow) d[r][j] = S::sum_pairs16(d[r][j]);
    }
  }
  if constexpr (kCodes == GroupCodes::six) {
    add_group<S, kCodes, kRows, kPanels, true>(t, d, acc);
  } else if constexpr (kCodes == GroupCodes::eight || kCodes == GroupCodes::e2m1) {
    add_group<S, kCodes, kRows, kPanels, false>(t, d, acc);
  } else if (t.factors_at != 0) {
    add_group<S, kCodes, kRows, kPanels, true>(t, d, acc);
  } else {
    add_group<S, kCodes, kRows, kPanels, false>(t, d, acc);
  }
}

template <class S, GroupCodes kCodes>
struct DecodeTiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &decode_group<S, kCodes, kRows, kPanels>;
};

using DecodeTile = void (*)(const DecodeGroup&, float*) noexcept;

/// Null where the panels are not made as those of the formats that there are.
template <class S>
DecodeTile find_decode_tile(const GroupPanels& w, int rows, bool several) noexcept {
  constexpr int kRows = kDecodeRows<S>;
  const bool halves = w.scale == DType::float16 && w.factor == 1.0f;
  const bool plain = w.factors == 0 && !w.offsets;
  switch (w.bits) {
    case 8:
      if (!plain || w.factor != 1.0f || w.scale == DType::bfloat16) return nullptr;
      return find_tile<S, DecodeTiles<S, GroupCodes::eight>, kRows>(rows, several);
    case 6:
      if (!halves || w.factors != 1 || w.offsets) return nullptr;
      return find_tile<S, DecodeTiles<S, GroupCodes::six>, kRows>(rows, several);
    case 5:
      if (!halves || w.factors == 1 || w.group % 32 != 0) return nullptr;
      return find_tile<S, DecodeTiles<S, GroupCodes::five>, kRows>(rows, several);
    default:
      if (w.e2m1) {
        if (!plain || w.scale != DType::bfloat16) return nullptr;
        return find_tile<S, DecodeTiles<S, GroupCodes::e2m1>, kRows>(rows, several);
      }
      if (!halves || w.factors == 1 || w.zero != 0 || w.group != 32) return nullptr;
      return find_tile<S, DecodeTiles<S, GroupCodes::four>, kRows>(rows, several);
  }
}

/// acc = the sums of one block of at most kDecodeRows rows times the panels of a tile, all of k.
/// tile: of find_decode_tile().
template <class S>
void decode_groups(const GemmArgs& g, const Panels& panels, std::int64_t row, int rows,
                   DecodeTile tile, float* acc) noexcept {
  constexpr int kNr = S::kVectors * S::kLanes;
  alignas(64) float unit_scales[S::panels(1) * kNr];
  alignas(64) float unit_offsets[S::panels(1) * kNr];
  const GroupPanels& w = g.groups;
  const bool bytes = w.bits == 8;
  const bool high = w.bits == 5 || w.bits == 6;
  const std::ptrdiff_t header_bytes = w.header_bytes();
  const std::ptrdiff_t unit_bytes = w.unit_bytes();
  const auto* a = offset_bytes<unsigned char>(g.a, row * w.k_padded);
  const std::int32_t* const sums =
      g.a_sums + row * sums_of_row(w.k_padded, ActivationSums::running16);
  for (int i = 0; i < S::kMaxAccumulators; ++i) S::store_f32(acc + i * S::kLanes, S::set1(0.0f));
  const std::ptrdiff_t ahead = w.unit > w.group ? unit_bytes * w.group / w.unit : 0;
  DecodeGroup t{};
  t.header = offset_bytes<unsigned char>(g.b, panels.first * w.panel_bytes());
  t.stride = panels.apart * w.panel_bytes();
  t.zero = !bytes ? w.zero : S::kSignedCodes ? 0 : 128;
  t.wide = w.scale == DType::float32;
  t.factor = w.factor;
  t.offsets_at = w.offsets ? w.offsets_at() : 0;
  t.unit_scales = unit_scales;
  t.unit_offsets = unit_offsets;
  for (std::int64_t begin = 0; begin < w.k_padded; begin += w.unit, t.header += unit_bytes) {
    const std::int64_t unit_end = begin + w.unit < w.k_padded ? begin + w.unit : w.k_padded;
    if (w.factors != 0) {
      for (int p = 0; p < panels.count; ++p) {
        const auto* half = offset_bytes<std::uint16_t>(t.header, p * t.stride);
        for (int v = 0; v < kNr; v += S::kLanes) {
          S::store_f32(unit_scales + p * kNr + v, S::load_f16(half + v));
          if (w.offsets) S::store_f32(unit_offsets + p * kNr + v, S::load_f16(half + kNr + v));
        }
      }
      t.factors_at = w.factors_at(0, 0);
    }
    t.low = t.header + header_bytes;
    t.high = high ? t.low + w.unit / 2 * kNr : nullptr;
    for (std::int64_t k = begin; k < unit_end; k += w.group) {
      const std::int64_t end = k + w.group < unit_end ? k + w.group : unit_end;
      t.a = a + k * rows;
      t.before = sums + k / 16 * rows;
      t.after = sums + end / 16 * rows;
      t.length = end - k;
      if (ahead != 0) {
        for (int p = 0; p < panels.count; ++p) {
          const unsigned char* const next =
              t.header + p * t.stride + unit_bytes + (k - begin) / w.group * ahead;
          for (std::ptrdiff_t line = 0; line < ahead; line += 64) {
            __builtin_prefetch(next + line, 0, 3);
          }
        }
      }
      tile(t, acc);
      t.low += t.length * kNr / (bytes ? 1 : 2);
      if (high) t.high += t.length * kNr / (w.bits == 5 ? 8 : 4);
      t.factors_at += std::ptrdiff_t{w.factors} * kNr;
    }
  }
}

}  // namespace
}  // namespace kvant
