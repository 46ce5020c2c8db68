#pragma once

// What codes of 4 bits are multiplied as, and the real values they stand for: of a whole panel, for
// products in float, and of the columns of outlier features.

#include "cpu/micro/simd_common.hpp"
#include "kvant/codebook.hpp"

namespace kvant {
namespace {

// Copies of each unit's own: it exports nothing but its table.
constexpr CodebookTable kOwnNf4 = kNf4;
constexpr CodebookTable kOwnFp4 = kFp4;

/// Codes as they are, scales in fp16.
template <class S>
struct LinearNibbles {
  static constexpr bool kNarrow = S::kPairLimit != 0;  ///< sums in 16 bits
  static constexpr std::int32_t kZero = 8;
  static constexpr std::int32_t kScaleBytes = 2;
  static typename S::I table() noexcept { return S::zero_i(); }
  static typename S::I integers(typename S::I codes, typename S::I /*table*/) noexcept {
    return codes;
  }
  /// As signed bytes, code - zero (gemm_nibble_squares.hpp); zeros: in every byte.
  static constexpr std::int32_t kUniformZeros = kZero * 0x01010101;
  static typename S::I signed_table() noexcept { return S::zero_i(); }
  static typename S::I signed_integers(typename S::I codes, typename S::I /*table*/,
                                       typename S::I zeros) noexcept {
    const typename S::I sign = S::set1_i(static_cast<std::int32_t>(0x80808080u));
    return S::xor_i(S::sub_i(S::xor_i(codes, sign), zeros), sign);  // no byte borrows
  }
  static typename S::F scale(const unsigned char* p) noexcept {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(p));
  }
  static typename S::F product_scale(typename S::F scale) noexcept { return scale; }
  static typename S::F value(typename S::I code, typename S::I zero) noexcept {
    return S::to_f32(S::sub_i(code, zero));
  }
};

/// The integers of a table as they are (up to 128), or as signed bytes without their zero.
struct IntegerTable {
  alignas(16) std::uint8_t integer[16];

  static constexpr IntegerTable of(const CodebookTable& book, bool is_signed) noexcept {
    IntegerTable table{};
    for (int i = 0; i < 16; ++i) {
      table.integer[i] = static_cast<std::uint8_t>(book.integer[i] - (is_signed ? book.zero : 0));
    }
    return table;
  }
};

/// Codes through a table: integers in products, floats where the values are wanted.
template <class S, const CodebookTable& kTable>
struct BookNibbles {
  static constexpr bool kNarrow = false;
  static constexpr IntegerTable kIntegers = IntegerTable::of(kTable, S::kSignedCodes);
  static constexpr std::int32_t kZero = S::kSignedCodes ? 0 : kTable.zero;
  static constexpr std::int32_t kScaleBytes = 4;
  static typename S::I table() noexcept { return S::load_table(kIntegers.integer); }
  static typename S::I integers(typename S::I codes, typename S::I table) noexcept {
    return S::lookup(table, codes);
  }
  static constexpr IntegerTable kSigned = IntegerTable::of(kTable, true);
  static constexpr std::int32_t kUniformZeros = 0;
  static typename S::I signed_table() noexcept { return S::load_table(kSigned.integer); }
  static typename S::I signed_integers(typename S::I codes, typename S::I table,
                                       typename S::I /*zeros*/) noexcept {
    return S::lookup(table, codes);
  }
  static typename S::F scale(const unsigned char* p) noexcept {
    return S::load_f32(reinterpret_cast<const float*>(p));
  }
  static typename S::F product_scale(typename S::F scale) noexcept {
    return S::mul(scale, S::set1(kTable.inverse_unit));
  }
  static typename S::F value(typename S::I code, typename S::I /*zero*/) noexcept {
    return S::lookup_f32(kTable.value, code);
  }
};

/// The real values of code k of the outputs of one vector.
template <class S, class P>
inline typename S::F nibble_values(const NibblePanels& w, const unsigned char* panel, int v,
                                   std::int64_t k) noexcept {
  const unsigned char* header = panel + w.group_at(k);
  const auto* word = reinterpret_cast<const std::int32_t*>(panel + w.code_at(v, k) - k % 4);
  const int shift = static_cast<int>(k % 4) * 8 + NibblePanels::shift_of(k);
  const typename S::I code = S::and_i(S::shift_right(S::load_i32(word), shift), S::set1_i(15));
  const typename S::I zero =
      w.zero_points ? S::load_u8(header + w.zeros_offset() + v) : S::set1_i(P::kZero);
  return S::mul(P::value(code, zero), P::scale(header + v * P::kScaleBytes));
}

/// to [count][nr]: the weights of the found outlier features, for one panel.
template <class S, class P>
[[gnu::noinline]] void gather_nibbles(const GemmArgs& g, std::int64_t panel, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const auto* b = offset_bytes<unsigned char>(g.b, panel * g.nibbles.panel_bytes());
  for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j, to += kColumns) {
    for (int v = 0; v < kColumns; v += S::kLanes) {
      S::store_f32(to + v, nibble_values<S, P>(g.nibbles, b, v, g.columns.columns[j]));
    }
  }
}

template <class S, class P>
void gather_nibble_columns(const GemmArgs& g, float* w) noexcept {
  for (std::int64_t panel = g.range.panel_begin; panel < g.range.panel_end; ++panel) {
    gather_nibbles<S, P>(g, panel,
                         w + panel * g.epilogue.outliers.found.count * S::kVectors * S::kLanes);
  }
}

/// [k_padded][nr]: the real values of a panel.
template <class S, class P>
void widen_nibbles(const GemmArgs& g, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const NibblePanels w = g.nibbles;
  const auto* header = offset_bytes<unsigned char>(g.b, g.range.panel_begin * w.panel_bytes());
  for (std::int64_t first = 0; first < w.k_padded; first += w.group, header += w.group_bytes()) {
    const std::int64_t length = w.k_padded - first < w.group ? w.k_padded - first : w.group;
    KVANT_UNROLL
    for (int v = 0; v < kColumns; v += S::kLanes) {
      const typename S::F scale = P::scale(header + v * P::kScaleBytes);
      const typename S::I zero =
          w.zero_points ? S::load_u8(header + w.zeros_offset() + v) : S::set1_i(P::kZero);
      const unsigned char* codes = header + w.header_bytes() + v * 4;
      for (std::int64_t k = 0; k < length; k += 8, codes += kColumns * 4) {
        const typename S::I words = S::load_i32(reinterpret_cast<const std::int32_t*>(codes));
        KVANT_UNROLL
        for (int i = 0; i < 8; ++i) {
          const typename S::I code =
              S::and_i(S::shift_right(words, i % 4 * 8 + NibblePanels::shift_of(i)), S::set1_i(15));
          S::store_f32(to + (first + k + i) * kColumns + v, S::mul(P::value(code, zero), scale));
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvant
