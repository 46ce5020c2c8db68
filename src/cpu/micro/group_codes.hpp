#pragma once

// GroupPanels taken apart: codes as bytes, scales and offsets as floats, for a run of k of a panel;
// and the real values, of a whole panel and of the columns of outlier features.

#include "cpu/micro/simd_common.hpp"
#include "kvant/codebook.hpp"

namespace kvant {
namespace {

constexpr CodebookTable kOwnE2m1 = kE2m1;  // each unit's own: it exports nothing but its table

/// Codes as products take them. kBytes: they are int8.
template <class S, bool kBytes>
[[gnu::always_inline]] inline typename S::I group_operand(typename S::I w) noexcept {
  if constexpr (!kBytes || S::kSignedCodes) return w;
  return S::xor_i(w, S::set1_i(static_cast<std::int32_t>(0x80808080u)));
}

template <class S, bool kBytes>
[[gnu::always_inline]] inline typename S::I load_group_operand(
    const unsigned char* codes) noexcept {
  return group_operand<S, kBytes>(S::load_b(reinterpret_cast<const std::int8_t*>(codes)));
}

template <class S, bool kBytes>
[[gnu::always_inline]] inline typename S::I group_dot(typename S::I sum, typename S::I w,
                                                      typename S::I x) noexcept {
  if constexpr (kBytes && !S::kSignedCodes && S::kPairLimit != 0) {
    return S::dot_unlimited(sum, w, x);
  } else {
    return S::dot(sum, w, x);  // (signed activations are never -128)
  }
}

/// The codes of k to k + 3 (k a multiple of 4) in the bytes of the lanes of outputs v to
/// v + S::kLanes. panel: its start.
template <class S, int kBits>
[[gnu::always_inline]] inline typename S::I group_codes(const GroupPanels& w,
                                                        const unsigned char* panel, int v,
                                                        std::int64_t k) noexcept {
  const auto word = [&](std::int64_t at) noexcept {
    return S::load_i32(reinterpret_cast<const std::int32_t*>(panel + at));
  };
  const typename S::I low = word(w.low_at(v, k));
  if constexpr (kBits == 8) return low;
  const typename S::I nibbles = k % 8 < 4 ? S::low_nibbles(low) : S::high_nibbles(low);
  if constexpr (kBits == 4) return nibbles;
  const typename S::I high = S::shift_right(word(w.high_at(v, k)), w.high_shift(k));
  const typename S::I mask = S::set1_i(kBits == 5 ? 0x01010101 : 0x03030303);
  // Four bits up: times 16, in words, which no bit leaves.
  return S::xor_i(nibbles, S::mul16(S::and_i(high, mask), S::set1_i(0x00100010)));
}

/// to [length / 4][nr][4]: codes as bytes that products take, not negative. low, high: where those
/// of the first k are (a multiple of 32, as the length is; all within a unit).
template <class S, int kBits>
[[gnu::noinline]] void unpack_codes(const unsigned char* low, const unsigned char* high, bool e2m1,
                                    std::int64_t length, unsigned char* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  constexpr int kLine = kColumns * 4;
  const typename S::I table = S::load_table(kOwnE2m1.integer);
  const auto load = [](const unsigned char* at) noexcept {
    return S::load_i32(reinterpret_cast<const std::int32_t*>(at));
  };
  for (; length > 0; length -= 32) {
    for (int v = 0; v < kLine; v += S::kBytesB) {
      KVANT_UNROLL
      for (int i = 0; i < 8; ++i) {
        const typename S::I both = load(low + i / 2 * kLine + v);
        typename S::I codes = i % 2 == 0 ? S::low_nibbles(both) : S::high_nibbles(both);
        if constexpr (kBits == 4) {
          if (e2m1) codes = S::lookup(table, codes);
        } else {
          const typename S::I bits =
              kBits == 5 ? S::and_i(S::shift_right(load(high + v), i), S::set1_i(0x01010101))
                         : S::and_i(S::shift_right(load(high + i / 4 * kLine + v), 2 * (i % 4)),
                                    S::set1_i(0x03030303));
          // Four bits up: times 16, in words, which no bit leaves.
          codes = S::xor_i(codes, S::mul16(bits, S::set1_i(0x00100010)));
        }
        S::store_i32(reinterpret_cast<std::int32_t*>(to + i * kLine + v), codes);
      }
    }
    low += 4 * kLine;
    high += kBits == 5 ? kLine : 2 * kLine;
    to += 8 * kLine;
  }
}

/// The same for panels of any width of codes but 8 bits: from k_in_unit on.
template <class S>
inline void unpack_unit(const GroupPanels& w, const unsigned char* codes, std::int64_t k_in_unit,
                        std::int64_t length, unsigned char* to) noexcept {
  const unsigned char* const low = codes + k_in_unit / 2 * w.nr;
  const unsigned char* const high = codes + w.unit / 2 * w.nr;
  switch (w.bits) {
    case 4: unpack_codes<S, 4>(low, low, w.e2m1, length, to); break;
    case 5: unpack_codes<S, 5>(low, high + k_in_unit / 8 * w.nr, false, length, to); break;
    default: unpack_codes<S, 6>(low, high + k_in_unit / 4 * w.nr, false, length, to); break;
  }
}

/// The scale and the offset of a group of a unit, of outputs v to v + S::kLanes. unit: its start.
template <class S>
[[gnu::always_inline]] inline typename S::F group_scale(const GroupPanels& w,
                                                        const unsigned char* unit, int v,
                                                        std::int64_t group) noexcept {
  const auto* half = reinterpret_cast<const std::uint16_t*>(unit + v * 2);
  typename S::F scale = w.scale == DType::float16 ? S::load_f16(half)
                        : w.scale == DType::bfloat16
                            ? S::load_bf16(half)
                            : S::load_f32(reinterpret_cast<const float*>(unit + v * 4));
  if (w.factors == 1) {
    const auto* factors = reinterpret_cast<const std::int8_t*>(unit + w.factors_at(group, 0) + v);
    scale = S::mul(scale, S::to_f32(S::load_i8(factors)));
  } else if (w.factors == 2) {
    scale = S::mul(scale, S::to_f32(S::load_u8(unit + w.factors_at(group, 0) + v)));
  }
  return S::mul(scale, S::set1(w.factor));
}
template <class S>
[[gnu::always_inline]] inline typename S::F group_offset(const GroupPanels& w,
                                                         const unsigned char* unit, int v,
                                                         std::int64_t group) noexcept {
  const typename S::F offset =
      S::load_f16(reinterpret_cast<const std::uint16_t*>(unit + w.offsets_at() + v * 2));
  if (w.factors != 2) return offset;
  return S::mul(offset, S::to_f32(S::load_u8(unit + w.factors_at(group, 1) + v)));
}

/// The real values of code k of the outputs of one vector, from the word of k / 4.
template <class S>
[[gnu::always_inline]] inline typename S::F group_value(const GroupPanels& w, typename S::I codes,
                                                        std::int64_t k, typename S::F scale,
                                                        typename S::F offset) noexcept {
  const int byte = static_cast<int>(k % 4);
  typename S::I code = S::signed_byte(codes, byte);  // below 8 bits none is negative
  if (w.bits != 8) code = S::sub_i(code, S::set1_i(w.zero));
  const typename S::F value = S::mul(S::to_f32(code), scale);
  return w.offsets ? S::add(value, offset) : value;
}

/// to [count][nr]: the weights of the found outlier features, for one panel.
template <class S>
[[gnu::noinline]] void gather_groups(const GemmArgs& g, std::int64_t panel, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const GroupPanels& w = g.groups;
  const auto* b = offset_bytes<unsigned char>(g.b, panel * w.panel_bytes());
  for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j, to += kColumns) {
    const std::int64_t k = g.columns.columns[j];
    const std::int64_t first = k / 4 * 4;
    const unsigned char* const unit = b + w.unit_at(k);
    const std::int64_t group = w.group_of_unit(k);
    for (int v = 0; v < kColumns; v += S::kLanes) {
      typename S::I codes;
      switch (w.bits) {
        case 4: codes = group_codes<S, 4>(w, b, v, first); break;
        case 5: codes = group_codes<S, 5>(w, b, v, first); break;
        case 6: codes = group_codes<S, 6>(w, b, v, first); break;
        default: codes = group_codes<S, 8>(w, b, v, first); break;
      }
      if (w.e2m1) codes = S::lookup(S::load_table(kOwnE2m1.integer), codes);
      const typename S::F offset = w.offsets ? group_offset<S>(w, unit, v, group) : S::set1(0.0f);
      S::store_f32(to + v, group_value<S>(w, codes, k, group_scale<S>(w, unit, v, group), offset));
    }
  }
}

template <class S>
void gather_group_columns(const GemmArgs& g, float* w) noexcept {
  for (std::int64_t panel = g.range.panel_begin; panel < g.range.panel_end; ++panel) {
    gather_groups<S>(g, panel,
                     w + panel * g.epilogue.outliers.found.count * S::kVectors * S::kLanes);
  }
}

/// [k_padded][nr]: the real values of a panel.
template <class S>
void widen_groups(const GemmArgs& g, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const GroupPanels& w = g.groups;
  const auto* panel = offset_bytes<unsigned char>(g.b, g.range.panel_begin * w.panel_bytes());
  alignas(64) unsigned char scratch[32 * kColumns];
  for (std::int64_t k = 0; k < w.k_padded; k += 32) {
    const unsigned char* const unit = panel + w.unit_at(k);
    const unsigned char* codes = scratch;
    if (w.bits == 8) {
      codes = panel + w.low_at(0, k);
    } else {
      unpack_unit<S>(w, unit + w.header_bytes(), k % w.unit, 32, scratch);
    }
    for (std::int64_t i = 0; i < 32; i += 4) {
      const std::int64_t group = w.group_of_unit(k + i);
      for (int v = 0; v < kColumns; v += S::kLanes) {
        const typename S::F scale = group_scale<S>(w, unit, v, group);
        const typename S::F offset = w.offsets ? group_offset<S>(w, unit, v, group) : scale;
        const typename S::I word =
            S::load_i32(reinterpret_cast<const std::int32_t*>(codes + i * kColumns + v * 4));
        for (int j = 0; j < 4; ++j) {
          S::store_f32(to + (k + i + j) * kColumns + v,
                       group_value<S>(w, word, i + j, scale, offset));
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvant
