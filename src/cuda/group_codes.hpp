#pragma once

// Weights in GroupPanels (of one output: nr = 1) on a device: their codes as signed bytes, eight at
// a time, their scales and offsets, and single weights.

#include "cuda/nibble_codes.hpp"
#include "kvant/kernels/groups.hpp"

namespace kvant {
namespace {

/// The rows of a call's weights. (GroupPanels' rules for nr = 1, divided once.)
struct GroupRows {
  const unsigned char* b;
  std::int64_t row_bytes;
  int unit, group, bits, zero, factors;
  int header_bytes, unit_bytes, factors_at, offset_at;
  DType scale_type;
  float factor;
  bool offsets, e2m1;

  KVANT_DEVICE static GroupRows of(const GemmArgs& g) {
    const GroupPanels& w = g.groups;
    const auto unit = static_cast<int>(w.unit), group = static_cast<int>(w.group);
    const auto k_padded = static_cast<int>(w.k_padded);
    const int offset_at = w.scale == DType::float32 ? 4 : 2;
    const int factors_at = offset_at + (w.offsets ? 2 : 0);
    const int bytes = factors_at + (w.factors == 0 ? 0 : unit / group * w.factors);
    const int header = (bytes + w.align - 1) / w.align * w.align;
    const std::int64_t row_bytes =
        std::int64_t{(k_padded + unit - 1) / unit} * header + std::int64_t{k_padded} * w.bits / 8;
    return {static_cast<const unsigned char*>(g.b),
            row_bytes,
            unit,
            group,
            w.bits,
            w.zero,
            w.factors,
            header,
            header + unit * w.bits / 8,
            factors_at,
            offset_at,
            w.scale,
            w.factor,
            w.offsets,
            w.e2m1};
  }
  KVANT_DEVICE const unsigned char* row(std::int64_t n) const { return b + n * row_bytes; }
  KVANT_DEVICE const unsigned char* unit_of(const unsigned char* row, int k) const {
    return row + std::int64_t{k / unit} * unit_bytes;
  }
  /// Codes k to k + 3 and k + 4 to k + 7 (k a multiple of 8), without their zero.
  KVANT_DEVICE NibblePair integers(const unsigned char* row, int k) const {
    const unsigned char* const codes = unit_of(row, k) + header_bytes;
    const int in_unit = k % unit;
    const auto word = [&](int at) { return *reinterpret_cast<const std::uint32_t*>(codes + at); };
    if (bits == 8) return {word(in_unit), word(in_unit + 4)};
    const std::uint32_t both = word(in_unit / 2);
    if (e2m1) return BookCodes<kE2m1>::integers(both, 0);
    NibblePair pair = LinearCodes::with_zero(both);
    if (bits == 5) {
      const std::uint32_t high = word(unit / 2 + in_unit / 32 * 4) >> (in_unit / 4 % 8);
      pair.low |= (high & 0x01010101u) << 4;
      pair.high |= (high >> 1 & 0x01010101u) << 4;
    } else if (bits == 6) {
      const std::uint32_t high = word(unit / 2 + in_unit / 16 * 4) >> (2 * (in_unit / 4 % 4));
      pair.low |= (high & 0x03030303u) << 4;
      pair.high |= (high >> 2 & 0x03030303u) << 4;
    }
    constexpr std::uint32_t kSigns = 0x80808080u;  // keep bytes from borrowing from each other
    const std::uint32_t zeros = static_cast<std::uint32_t>(zero) * 0x01010101u;
    return {((pair.low | kSigns) - zeros) ^ kSigns, ((pair.high | kSigns) - zeros) ^ kSigns};
  }
  KVANT_DEVICE float scale(const unsigned char* row, int k) const {
    const unsigned char* const header = unit_of(row, k);
    float value = load_float(header, scale_type, 0);
    if (factors != 0) {
      const unsigned char byte = header[factors_at + k % unit / group * factors];
      value =
          device::multiply(value, factors == 1 ? static_cast<float>(static_cast<std::int8_t>(byte))
                                               : static_cast<float>(byte));
    }
    return device::multiply(value, factor);
  }
  KVANT_DEVICE float offset(const unsigned char* row, int k) const {
    const unsigned char* const header = unit_of(row, k);
    const float value = load_float(header + offset_at, DType::float16, 0);
    if (factors != 2) return value;
    const unsigned char byte = header[factors_at + k % unit / group * factors + 1];
    return device::multiply(value, static_cast<float>(byte));
  }
};

/// Single weights, as Int8Weights has them.
struct GroupWeights {
  struct Raw {
    std::uint32_t code = 0;  ///< a signed byte
    float scale = 0.0f, offset = 0.0f;
  };
  KVANT_DEVICE static Raw load(const GemmArgs& g, std::int64_t n, std::int64_t column) {
    const GroupRows rows = GroupRows::of(g);
    const unsigned char* const row = rows.row(n);
    const auto k = static_cast<int>(column);
    const NibblePair pair = rows.integers(row, k / 8 * 8);
    const std::uint32_t word = k % 8 < 4 ? pair.low : pair.high;
    return {word >> (k % 4 * 8) & 0xFFu, rows.scale(row, k),
            rows.offsets ? rows.offset(row, k) : 0.0f};
  }
  KVANT_DEVICE static float value(const GemmArgs& g, const Raw& raw) {
    const auto code = static_cast<std::int8_t>(static_cast<std::uint8_t>(raw.code));
    const float product = device::multiply(static_cast<float>(code), raw.scale);
    return g.groups.offsets ? device::add(product, raw.offset) : product;
  }
};

}  // namespace
}  // namespace kvant
