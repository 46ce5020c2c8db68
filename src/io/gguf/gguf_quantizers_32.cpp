// Plain elements (in the machine's own order), and blocks of 32 values under one scale. Codes are
// made with the scale before it is rounded to half, and the order of the float operations is
// ggml's: nothing is fused.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "io/file/byte_order.hpp"
#include "io/gguf/gguf_quantizers.hpp"
#include "kvant/float16.hpp"

namespace kvant::io {
namespace {

constexpr int kBlock = 32;

template <class T>
void store(std::byte* at, T value) noexcept {
  store_little(at, value);
}

void store_half(std::byte* at, float value) noexcept {
  store(at, float16(value).bits);
}

/// 1 / scale; 0 for scales so small that it is infinite, which are zero as halves too.
float inverse(float scale) noexcept {
  const float result = scale == 0.0f ? 0.0f : 1.0f / scale;
  return std::isfinite(result) ? result : 0.0f;
}

/// The value of the largest magnitude, the first one on ties, with its sign.
float signed_peak(const float* values) noexcept {
  float peak = 0.0f;
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(values[i]) > std::fabs(peak)) peak = values[i];
  }
  return peak;
}

/// Low halves of the bytes are the first 16 codes.
void store_nibbles(std::byte* at, const int* codes) noexcept {
  for (int i = 0; i < kBlock / 2; ++i) {
    at[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + kBlock / 2] & 15) << 4);
  }
}

/// The fifth bits of 32 codes.
std::uint32_t high_bits(const int* codes) noexcept {
  std::uint32_t bits = 0;
  for (int i = 0; i < kBlock; ++i) bits |= static_cast<std::uint32_t>(codes[i] >> 4 & 1) << i;
  return bits;
}

/// Symmetric codes: the peak becomes -zero. @return the scale
float symmetric(const float* values, int zero, int* codes) noexcept {
  const float scale = signed_peak(values) / static_cast<float>(-zero);
  const float by = inverse(scale);
  const float shift = static_cast<float>(zero) + 0.5f;
  for (int i = 0; i < kBlock; ++i) {
    codes[i] = std::min(2 * zero - 1, static_cast<int>(values[i] * by + shift));
  }
  return scale;
}

struct Affine {
  float scale;
  float smallest;
};

/// Codes from 0 to top between the smallest value and the largest.
Affine affine(const float* values, int top, int* codes) noexcept {
  const auto [low, high] = std::minmax_element(values, values + kBlock);
  const Affine result{(*high - *low) / static_cast<float>(top), *low};
  const float by = inverse(result.scale);
  for (int i = 0; i < kBlock; ++i) {
    codes[i] = std::min(top, static_cast<int>((values[i] - result.smallest) * by + 0.5f));
  }
  return result;
}

}  // namespace

void quantize_f32(const float* values, std::byte* block) noexcept {
  std::memcpy(block, values, sizeof *values);
}

void quantize_f16(const float* values, std::byte* block) noexcept {
  const float16 half(*values);
  std::memcpy(block, &half, sizeof half);
}

void quantize_bf16(const float* values, std::byte* block) noexcept {
  const bfloat16 half(*values);
  std::memcpy(block, &half, sizeof half);
}

void quantize_q4_0(const float* values, std::byte* block) noexcept {
  int codes[kBlock];
  store_half(block, symmetric(values, 8, codes));
  store_nibbles(block + 2, codes);
}

void quantize_q4_1(const float* values, std::byte* block) noexcept {
  int codes[kBlock];
  const Affine found = affine(values, 15, codes);
  store_half(block, found.scale);
  store_half(block + 2, found.smallest);
  store_nibbles(block + 4, codes);
}

void quantize_q5_0(const float* values, std::byte* block) noexcept {
  int codes[kBlock];
  store_half(block, symmetric(values, 16, codes));
  store(block + 2, high_bits(codes));
  store_nibbles(block + 6, codes);
}

void quantize_q5_1(const float* values, std::byte* block) noexcept {
  int codes[kBlock];
  const Affine found = affine(values, 31, codes);
  store_half(block, found.scale);
  store_half(block + 2, found.smallest);
  store(block + 4, high_bits(codes));
  store_nibbles(block + 8, codes);
}

void quantize_q8_0(const float* values, std::byte* block) noexcept {
  const float scale = std::fabs(signed_peak(values)) / 127.0f;
  const float by = inverse(scale);
  store_half(block, scale);
  for (int i = 0; i < kBlock; ++i) {
    block[2 + i] = static_cast<std::byte>(static_cast<std::int8_t>(std::round(values[i] * by)));
  }
}

}  // namespace kvant::io
