// Plain elements, and the types whose blocks are 32, 64 or 128 values under one scale.

#include <cmath>
#include <cstring>

#include "io/gguf/gguf_block_bytes.hpp"
#include "io/gguf/gguf_blocks.hpp"
#include "io/gguf/gguf_codebooks.hpp"

namespace kvant::io {

namespace {

/// A plain element, in the machine's own order like those of every tensor.
template <class T>
T element(const std::byte* at) noexcept {
  T value;
  std::memcpy(static_cast<void*>(&value), at, sizeof value);
  return value;
}

}  // namespace

void dequantize_f32(const std::byte* block, float* out) noexcept {
  *out = element<float>(block);
}

void dequantize_f16(const std::byte* block, float* out) noexcept {
  *out = static_cast<float>(element<float16>(block));
}

void dequantize_bf16(const std::byte* block, float* out) noexcept {
  *out = static_cast<float>(element<bfloat16>(block));
}

void dequantize_f64(const std::byte* block, float* out) noexcept {
  *out = static_cast<float>(element<double>(block));
}

void dequantize_q8_1(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(b.s8(4 + i)) * d;
}

void dequantize_iq4_nl(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int i = 0; i < 32; ++i) out[i] = d * kIq4Values[b.nibble(2 + i % 16, i / 16)];
}

void dequantize_mxfp4(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float scale = std::ldexp(1.0f, b.u8(0) - 128);  // subnormal below 2
  for (int i = 0; i < 32; ++i) out[i] = kDoubledE2M1[b.nibble(1 + i % 16, i / 16)] * scale;
}

void dequantize_nvfp4(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  for (int i = 0; i < 64; ++i) {
    const int s = i / 16;
    const int e = i % 16;
    const int code = b.u8(s);
    const int exponent = (code >> 3) & 15;
    const auto mantissa = static_cast<float>(code & 7);
    float scale =
        exponent == 0 ? mantissa * 0x1.0p-10f : std::ldexp(1.0f + mantissa / 8.0f, exponent - 8);
    if (code == 0 || code == 0x7F) scale = 0.0f;
    out[i] = kDoubledE2M1[b.nibble(4 + 8 * s + e % 8, e / 8)] * scale;
  }
}

void dequantize_q1_0(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int i = 0; i < 128; ++i) out[i] = ((b.u8(2 + i / 8) >> (i % 8)) & 1) != 0 ? d : -d;
}

void dequantize_q2_0(const std::byte* block, float* out) noexcept {
  const BlockBytes b(block);
  const float d = b.half(0);
  for (int i = 0; i < 64; ++i) {
    out[i] = static_cast<float>(((b.u8(2 + i / 4) >> (2 * (i % 4))) & 3) - 1) * d;
  }
}

}  // namespace kvant::io
