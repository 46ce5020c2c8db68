// The IQ types: 4 or 8 values at a time are an entry of a grid, with signs and scales of their own.

#include <cstdint>

#include "io/gguf/gguf_block_bytes.hpp"
#include "io/gguf/gguf_blocks.hpp"

namespace kvant::io {
namespace {

#include "io/gguf/gguf_grids.inc"

constexpr float kIq2Values[4] = {8, 25, 43, 0};
constexpr float kIq3XxsValues[8] = {4, 12, 20, 28, 36, 44, 52, 62};
constexpr float kIq3SValues[8] = {1, 3, 5, 7, 9, 11, 13, 15};
constexpr float kIq1Values[4] = {-1, 0, 1, 0};

/// Entry `index` of a grid: four digits.
std::uint32_t entry_of(const char* grid, std::uint32_t index) noexcept {
  std::uint32_t entry = 0;
  for (int i = 0; i < 4; ++i) {
    const char digit = grid[index * 4 + static_cast<std::uint32_t>(i)];
    entry = entry << 4 | static_cast<std::uint32_t>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
  return entry;
}

/// Value i of an entry of eight, and of one of four.
float eighth(const float (&values)[4], std::uint32_t entry, int i) noexcept {
  return values[entry >> (2 * i) & 3];
}
float quarter(const float (&values)[8], std::uint32_t entry, int i) noexcept {
  return values[entry >> (3 * i) & 7];
}

/// Eight signs from seven bits: their number of ones is even.
std::uint32_t eight_signs(std::uint32_t seven) noexcept {
  std::uint32_t parity = seven ^ seven >> 4;
  parity ^= parity >> 2;
  parity ^= parity >> 1;
  return seven | (parity & 1) << 7;
}

float sign_of(std::uint32_t signs, int i) noexcept {
  return (signs >> i & 1) != 0 ? -1.0f : 1.0f;
}

void put_eight(float scale, const float (&values)[4], std::uint32_t entry, std::uint32_t signs,
               float* out) noexcept {
  for (int i = 0; i < 8; ++i) out[i] = scale * eighth(values, entry, i) * sign_of(signs, i);
}

}  // namespace

void dequantize_iq2_xxs(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int ib = 0; ib < 8; ++ib) {
    const int at = 2 + 8 * ib;
    const std::uint32_t signs = b.u32(at + 4);
    const float scale = d * (0.5f + static_cast<float>(signs >> 28)) * 0.25f;
    for (int l = 0; l < 4; ++l, out += 8) {
      const auto index = static_cast<std::uint32_t>(b.u8(at + l));
      put_eight(scale, kIq2Values, entry_of(kIq2XxsGrid, index),
                eight_signs(signs >> (7 * l) & 127), out);
    }
  }
}

void dequantize_iq2_xs(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int group = 0; group < 32; ++group, out += 8) {
    const std::uint32_t word = b.u16(2 + 2 * group);
    const int nibble = b.nibble(66 + group / 4, group / 2 % 2);
    const float scale = d * (0.5f + static_cast<float>(nibble)) * 0.25f;
    put_eight(scale, kIq2Values, entry_of(kIq2XsGrid, word & 511), eight_signs(word >> 9), out);
  }
}

void dequantize_iq2_s(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int group = 0; group < 32; ++group, out += 8) {
    const int ib = group / 4;
    const int high = b.u8(66 + ib) >> (2 * (group % 4)) & 3;
    const auto index = static_cast<std::uint32_t>(b.u8(2 + group) | high << 8);
    const int nibble = b.nibble(74 + ib, group / 2 % 2);
    const float scale = d * (0.5f + static_cast<float>(nibble)) * 0.25f;
    put_eight(scale, kIq2Values, entry_of(kIq2SGrid, index),
              static_cast<std::uint32_t>(b.u8(34 + group)), out);
  }
}

void dequantize_iq3_xxs(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int ib = 0; ib < 8; ++ib) {
    const std::uint32_t word = b.u32(66 + 4 * ib);
    const float scale = d * (0.5f + static_cast<float>(word >> 28)) * 0.5f;
    for (int l = 0; l < 4; ++l, out += 8) {
      const std::uint32_t signs = eight_signs(word >> (7 * l) & 127);
      for (int i = 0; i < 8; ++i) {
        const auto index = static_cast<std::uint32_t>(b.u8(2 + 8 * ib + 2 * l + i / 4));
        out[i] =
            scale * quarter(kIq3XxsValues, entry_of(kIq3XxsGrid, index), i % 4) * sign_of(signs, i);
      }
    }
  }
}

void dequantize_iq3_s(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int group = 0; group < 32; ++group, out += 8) {
    const int ib = group / 4;
    const float scale = d * static_cast<float>(1 + 2 * b.nibble(106 + ib / 2, ib % 2));
    const auto signs = static_cast<std::uint32_t>(b.u8(74 + group));
    for (int i = 0; i < 8; ++i) {
      const int place = 2 * group + i / 4;  // of 64 entries
      const int high = b.u8(66 + ib) >> (place % 8) & 1;
      const auto index = static_cast<std::uint32_t>(b.u8(2 + place) | high << 8);
      out[i] = scale * quarter(kIq3SValues, entry_of(kIq3SGrid, index), i % 4) * sign_of(signs, i);
    }
  }
}

void dequantize_iq1_s(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int ib = 0; ib < 8; ++ib) {
    const std::uint32_t word = b.u16(34 + 2 * ib);
    const float scale = d * static_cast<float>(2 * (word >> 12 & 7) + 1);
    const float delta = (word & 0x8000) != 0 ? -0.125f : 0.125f;
    for (int l = 0; l < 4; ++l, out += 8) {
      const std::uint32_t index =
          static_cast<std::uint32_t>(b.u8(2 + 4 * ib + l)) | (word >> (3 * l) & 7) << 8;
      const std::uint32_t entry = entry_of(kIq1Grid, index);
      for (int i = 0; i < 8; ++i) out[i] = scale * (eighth(kIq1Values, entry, i) + delta);
    }
  }
}

void dequantize_iq1_m(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  constexpr int kScales = 48;
  std::uint32_t half = 0;  // the top four bits of each of the four words of scales
  for (int i = 0; i < 4; ++i) half |= (b.u16(kScales + 2 * i) >> 12) << (4 * i);
  const auto d = static_cast<float>(float16::from_bits(static_cast<std::uint16_t>(half)));
  for (int group = 0; group < 32; ++group, out += 8) {
    const int ib = group / 4;
    const std::uint32_t scales = b.u16(kScales + 2 * (ib / 2));
    const std::uint32_t s = scales >> (6 * (ib % 2) + 3 * (group % 4 / 2)) & 7;
    const float scale = d * static_cast<float>(2 * s + 1);
    const int high = b.nibble(32 + group / 2, group % 2);
    const auto index = static_cast<std::uint32_t>(b.u8(group) | (high & 7) << 8);
    const float delta = (high & 8) != 0 ? -0.125f : 0.125f;
    const std::uint32_t entry = entry_of(kIq1Grid, index);
    for (int i = 0; i < 8; ++i) out[i] = scale * (eighth(kIq1Values, entry, i) + delta);
  }
}

}  // namespace kvant::io
