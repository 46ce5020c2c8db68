// The types whose blocks are 256 values: scales of scales, and three-valued ones.

#include "io/gguf/gguf_block_bytes.hpp"
#include "io/gguf/gguf_blocks.hpp"
#include "io/gguf/gguf_codebooks.hpp"

namespace kvant::io {
void dequantize_q2_k(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(80);
  const float dmin = b.half(82);
  for (int i = 0; i < 256; ++i) {
    const int code = (b.u8(16 + 32 * (i / 128) + i % 32) >> (2 * (i % 128 / 32))) & 3;
    const int scales = b.u8(i / 16);
    out[i] = (d * static_cast<float>(scales & 15)) * static_cast<float>(code) -
             dmin * static_cast<float>(scales >> 4);
  }
}

void dequantize_q3_k(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  constexpr int kCodes = 32;
  constexpr int kScales = 96;
  const float d = b.half(108);
  for (int i = 0; i < 256; ++i) {
    const int n = i / 128;
    const int j = i % 128 / 32;
    const int l = i % 32;
    const int g = i / 16;
    const int low = (b.u8(kCodes + 32 * n + l) >> (2 * j)) & 3;
    const int code = low - (((b.u8(l) >> (4 * n + j)) & 1) != 0 ? 0 : 4);
    const int s4 = g < 8 ? b.u8(kScales + g) & 15 : b.u8(kScales + g - 8) >> 4;
    const int s2 = (b.u8(kScales + 8 + g % 4) >> (2 * (g / 4))) & 3;
    out[i] = (d * static_cast<float>((s4 | s2 << 4) - 32)) * static_cast<float>(code);
  }
}

void dequantize_q8_k(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.f32(0);
  for (int i = 0; i < 256; ++i) out[i] = d * static_cast<float>(b.s8(4 + i));
}

void dequantize_iq4_xs(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  const std::uint32_t high = b.u16(2);
  for (int k = 0; k < 8; ++k) {
    const int scale = b.nibble(4 + k / 2, k % 2) | static_cast<int>((high >> (2 * k)) & 3) << 4;
    const float product = d * static_cast<float>(scale - 32);
    for (int l = 0; l < 32; ++l) {
      out[32 * k + l] = product * kIq4Values[b.nibble(8 + 16 * k + l % 16, l / 16)];
    }
  }
}

void dequantize_tq1_0(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  constexpr int kPowers[5] = {1, 3, 9, 27, 81};
  const float d = b.half(52);
  for (int i = 0; i < 256; ++i) {
    int byte = 0;
    int power = 0;
    if (i < 160) {
      byte = b.u8(i % 32);
      power = i / 32;
    } else if (i < 240) {
      byte = b.u8(32 + (i - 160) % 16);
      power = (i - 160) / 16;
    } else {
      byte = b.u8(48 + (i - 240) % 4);
      power = (i - 240) / 4;
    }
    const int digit = (byte * kPowers[power]) % 256 * 3 >> 8;
    out[i] = static_cast<float>(digit - 1) * d;
  }
}

void dequantize_tq2_0(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(64);
  for (int i = 0; i < 256; ++i) {
    const int code = (b.u8(32 * (i / 128) + i % 32) >> (2 * (i % 128 / 32))) & 3;
    out[i] = static_cast<float>(code - 1) * d;
  }
}

}  // namespace kvant::io
