#pragma once

// The traits type S of the microkernel templates, said with plain arrays: what every member must
// mean. With the lanes and the multiplication of a real instruction set it runs the same templates
// on every machine, whatever that machine has; simd_members.hpp compares the real members with it.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>

#include "kvant/float16.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

/// How four products of bytes are summed: smull's pairs in 16 bits that wrap, maddubs' saturate.
enum class EmulatedDot { maddubs, dpbusd, smull, sdot };

template <int kWidth, EmulatedDot kDot, int kTileRows, int kTileVectors>
struct EmulatedSimd {
  static constexpr int kLanes = kWidth;
  using Narrow = EmulatedSimd<(kWidth < 8 ? kWidth : 8), kDot, kTileRows, kTileVectors>;
  struct F {
    float v[kWidth];
  };
  /// 4 * kLanes bytes: lanes of int32, or the bytes and words that the multiplications see in them.
  struct I {
    std::int32_t v[kWidth];
  };
  struct M {
    bool v[kWidth];
  };

  template <class Function>
  static F each(Function f) {
    F r;
    for (int i = 0; i < kWidth; ++i) r.v[i] = f(i);
    return r;
  }
  template <class Function>
  static I each_i(Function f) {
    I r;
    for (int i = 0; i < kWidth; ++i) r.v[i] = f(i);
    return r;
  }
  template <class Function>
  static M each_m(Function f) {
    M r;
    for (int i = 0; i < kWidth; ++i) r.v[i] = f(i);
    return r;
  }

  static F set1(float v) {
    return each([&](int) { return v; });
  }
  static I zero_i() {
    return each_i([](int) { return 0; });
  }

  // memcpy: real loads take any address, and do not mind what type was stored there.
  static F load_f32(const float* p) {
    F r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static F load_f16(const std::uint16_t* p) {
    return each([&](int i) { return detail::half_bits_to_float(p[i]); });
  }
  static F load_bf16(const std::uint16_t* p) {
    return each([&](int i) { return detail::bfloat_bits_to_float(p[i]); });
  }
  static I load_i32(const std::int32_t* p) {
    I r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  static I load_i8(const std::int8_t* p) {
    return each_i([&](int i) { return p[i]; });
  }
  static I load_i16(const std::int16_t* p) {
    return each_i([&](int i) { return p[i]; });
  }
  static I load_u8(const std::uint8_t* p) {
    return each_i([&](int i) { return p[i]; });
  }

  static void store_f32(float* p, F v) { std::memcpy(p, v.v, sizeof(v.v)); }
  static void store_f16(std::uint16_t* p, F v) {
    for (int i = 0; i < kWidth; ++i) p[i] = detail::float_to_half_bits(v.v[i]);
  }
  static void store_bf16(std::uint16_t* p, F v) {
    for (int i = 0; i < kWidth; ++i) p[i] = detail::float_to_bfloat_bits(v.v[i]);
  }
  static void store_i32(std::int32_t* p, I v) { std::memcpy(p, v.v, sizeof(v.v)); }
  static void store_i8(std::int8_t* p, I v) {
    for (int i = 0; i < kWidth; ++i) p[i] = static_cast<std::int8_t>(v.v[i]);
  }
  static void store_i8_offset(std::uint8_t* p, I v) {
    for (int i = 0; i < kWidth; ++i) p[i] = static_cast<std::uint8_t>(v.v[i] + 128);
  }
  static void store_low_bytes(std::int8_t* p, I v) {
    for (int i = 0; i < kWidth; ++i) {
      p[i] = static_cast<std::int8_t>(static_cast<std::uint8_t>(v.v[i] & 255));
    }
  }

  static F add(F a, F b) {
    return each([&](int i) { return a.v[i] + b.v[i]; });
  }
  static F sub(F a, F b) {
    return each([&](int i) { return a.v[i] - b.v[i]; });
  }
  static F mul(F a, F b) {
    return each([&](int i) { return a.v[i] * b.v[i]; });
  }
  static F div(F a, F b) {
    return each([&](int i) { return a.v[i] / b.v[i]; });
  }
  static F fma(F a, F b, F c) {
    return each([&](int i) { return __builtin_fmaf(a.v[i], b.v[i], c.v[i]); });
  }
  static F min(F a, F b) {
    return each([&](int i) { return a.v[i] < b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F max(F a, F b) {
    return each([&](int i) { return a.v[i] > b.v[i] ? a.v[i] : b.v[i]; });
  }
  static F abs(F a) {
    return each([&](int i) { return __builtin_fabsf(a.v[i]); });
  }
  static F round(F a) {
    return each([&](int i) { return __builtin_nearbyintf(a.v[i]); });
  }
  static F bit_and(F a, I mask) {
    return each([&](int i) {
      return std::bit_cast<float>(std::bit_cast<std::uint32_t>(a.v[i]) &
                                  static_cast<std::uint32_t>(mask.v[i]));
    });
  }
  static F round_f16(F a) {
    return each([&](int i) { return static_cast<float>(float16(a.v[i])); });
  }
  static F round_bf16(F a) {
    return each([&](int i) { return static_cast<float>(bfloat16(a.v[i])); });
  }
  static I set1_i(std::int32_t v) {
    return each_i([&](int) { return v; });
  }
  static I signed_byte(I a, int byte) {
    return each_i([&](int i) {
      const auto lane = static_cast<std::uint32_t>(a.v[i]);
      return static_cast<std::int8_t>(lane >> (8 * byte) & 0xFFu);
    });
  }
  static I and_i(I a, I b) {
    return each_i([&](int i) { return a.v[i] & b.v[i]; });
  }
  static I xor_i(I a, I b) {
    return each_i([&](int i) { return a.v[i] ^ b.v[i]; });
  }
  static F low_bf16(I words) {
    return each([&](int i) {
      return detail::bfloat_bits_to_float(static_cast<std::uint16_t>(words.v[i] & 0xFFFF));
    });
  }
  static F high_bf16(I words) {
    return each([&](int i) {
      return detail::bfloat_bits_to_float(
          static_cast<std::uint16_t>(static_cast<std::uint32_t>(words.v[i]) >> 16));
    });
  }
  static I join_words(I low, I high) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>((static_cast<std::uint32_t>(low.v[i]) & 0xFFFFu) |
                                       static_cast<std::uint32_t>(high.v[i]) << 16);
    });
  }
  static I narrow_words(I a, I b) {
    std::int16_t words[4 * kWidth];
    std::memcpy(words, a.v, sizeof(a.v));
    std::memcpy(words + 2 * kWidth, b.v, sizeof(b.v));
    I r;
    auto* bytes = reinterpret_cast<std::int8_t*>(r.v);
    for (int i = 0; i < 4 * kWidth; ++i) bytes[i] = static_cast<std::int8_t>(words[i]);
    return r;
  }
  static I narrow_lanes(I a, I b, I c, I d) {
    I r;
    auto* bytes = reinterpret_cast<std::int8_t*>(r.v);
    for (const I& v : {a, b, c, d}) {
      store_i8(bytes, v);
      bytes += kWidth;
    }
    return r;
  }
  static I sub_i(I a, I b) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) -
                                       static_cast<std::uint32_t>(b.v[i]));
    });
  }
  static I abs_bits(F a) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>(std::bit_cast<std::uint32_t>(a.v[i]) & 0x7FFFFFFFu);
    });
  }
  static I max_u32(I a, I b) {
    return each_i([&](int i) {
      return static_cast<std::uint32_t>(a.v[i]) > static_cast<std::uint32_t>(b.v[i]) ? a.v[i]
                                                                                     : b.v[i];
    });
  }
  static I max_u16(I a, I b) {
    const auto larger = [](std::uint32_t x, std::uint32_t y) { return x > y ? x : y; };
    return each_i([&](int i) {
      const auto x = static_cast<std::uint32_t>(a.v[i]);
      const auto y = static_cast<std::uint32_t>(b.v[i]);
      return static_cast<std::int32_t>(larger(x & 0xFFFF0000u, y & 0xFFFF0000u) |
                                       larger(x & 0xFFFFu, y & 0xFFFFu));
    });
  }
  static std::uint16_t word(I a, int i) {
    const auto lane = static_cast<std::uint32_t>(a.v[i / 2]);
    return static_cast<std::uint16_t>(i % 2 == 0 ? lane & 0xFFFFu : lane >> 16);
  }
  static bool any_at_least_u16(I a, std::uint16_t limit) {
    for (int i = 0; i < 2 * kWidth; ++i) {
      if (word(a, i) >= limit) return true;
    }
    return false;
  }
  static bool any_at_least_u32(I a, std::uint32_t limit) {
    for (const std::int32_t v : a.v) {
      if (static_cast<std::uint32_t>(v) >= limit) return true;
    }
    return false;
  }
  static void mark_at_least_u16(I a, std::uint16_t limit, std::uint8_t* flags) {
    for (int i = 0; i < 2 * kWidth; ++i) {
      if (word(a, i) >= limit) flags[i] = 1;
    }
  }
  static void mark_at_least_u32(I a, std::uint32_t limit, std::uint8_t* flags) {
    for (int i = 0; i < kWidth; ++i) {
      if (static_cast<std::uint32_t>(a.v[i]) >= limit) flags[i] = 1;
    }
  }
  static I keep_below_u16(I a, std::uint16_t limit) {
    return each_i([&](int i) {
      const std::uint32_t low = word(a, 2 * i) < limit ? word(a, 2 * i) : 0u;
      const std::uint32_t high = word(a, 2 * i + 1) < limit ? word(a, 2 * i + 1) : 0u;
      return static_cast<std::int32_t>(low | high << 16);
    });
  }
  static I keep_below_u32(I a, std::uint32_t limit) {
    return each_i([&](int i) { return static_cast<std::uint32_t>(a.v[i]) < limit ? a.v[i] : 0; });
  }
  /// Values outside int32 give INT32_MIN, as cvtps2dq.
  static I to_i32(F a) {
    return each_i([&](int i) {
      const float r = __builtin_nearbyintf(a.v[i]);
      return r >= -0x1p31f && r < 0x1p31f ? static_cast<std::int32_t>(r) : INT32_MIN;
    });
  }
  static F to_f32(I a) {
    return each([&](int i) { return static_cast<float>(a.v[i]); });
  }

  static M greater_equal(F a, F b) {
    return each_m([&](int i) { return a.v[i] >= b.v[i]; });
  }
  static M is_nan(F a) {
    return each_m([&](int i) { return a.v[i] != a.v[i]; });
  }
  static M mask_or(M a, M b) {
    return each_m([&](int i) { return a.v[i] || b.v[i]; });
  }
  static M first_lanes(int count) {
    return each_m([&](int i) { return i < count; });
  }
  static bool any(M m) { return bits(m) != 0; }
  static std::uint32_t bits(M m) {
    std::uint32_t r = 0;
    for (int i = 0; i < kWidth; ++i) r |= static_cast<std::uint32_t>(m.v[i]) << i;
    return r;
  }
  static F zero_where(M m, F a) {
    return each([&](int i) { return m.v[i] ? 0.0f : a.v[i]; });
  }
  static F select(M m, F yes, F no) {
    return each([&](int i) { return m.v[i] ? yes.v[i] : no.v[i]; });
  }
  static float horizontal_max(F a) {
    float r = a.v[0];
    for (float v : a.v) r = v > r ? v : r;
    return r;
  }
  static float horizontal_min(F a) {
    float r = a.v[0];
    for (float v : a.v) r = v < r ? v : r;
    return r;
  }

  // GEMM
  static constexpr int kRows = kTileRows;
  static constexpr int kVectors = kTileVectors;
  static constexpr int kGroup = 4;
  static constexpr int kBytesB = kWidth * 4;
  static constexpr int kPairLimit = kDot == EmulatedDot::maddubs ? 128
                                    : kDot == EmulatedDot::smull ? 255
                                                                 : 0;
  static constexpr bool kSignedCodes = kDot == EmulatedDot::smull || kDot == EmulatedDot::sdot;
  static constexpr int kMaxAccumulators = kTileRows * kTileVectors;
  static constexpr int panels(int rows) {
    return kWidth == 8 ? (rows == 1 ? 4 : rows == 2 ? 2 : 1) : (rows <= 2 ? 4 : rows <= 4 ? 2 : 1);
  }
  static constexpr std::ptrdiff_t kStreamAhead = kWidth >= 8 ? 2048 : 0;
  static I broadcast_a(const unsigned char* p) {
    std::int32_t group;
    std::memcpy(&group, p, sizeof(group));
    return each_i([&](int) { return group; });
  }
  static I load_b(const std::int8_t* p) {
    I r;
    std::memcpy(r.v, p, sizeof(r.v));
    return r;
  }
  /// Two products of bf16 per lane; the order of the sum is not part of the contract.
  static F dot_bf16(F acc, I a, I b) {
    for (int i = 0; i < kWidth; ++i) {
      std::uint16_t x[2];
      std::uint16_t w[2];
      std::memcpy(x, &a.v[i], 4);
      std::memcpy(w, &b.v[i], 4);
      for (int j = 0; j < 2; ++j) {
        acc.v[i] += detail::bfloat_bits_to_float(x[j]) * detail::bfloat_bits_to_float(w[j]);
      }
    }
    return acc;
  }
  /// Four products of bytes; some sum pairs of them in 16 bits.
  static I dot(I acc, I a, I b) { return multiply(acc, a, b, kPairLimit != 0); }
  static I dot_unlimited(I acc, I a, I b) { return multiply(acc, a, b, false); }
  static I dot_signed(I acc, I a, I b) { return multiply_signed(acc, a, b); }
  static I dot_by_signs(I acc, I a, I b) {
    if constexpr (kSignedCodes) return multiply_signed(acc, a, b);
    const I magnitudes = each_byte([&](int i) {
      const auto byte = static_cast<std::int8_t>(bytes_of(b).v[i]);
      return byte < 0 ? -byte : int{byte};
    });
    const I negated = each_byte([&](int i) {
      const auto byte = static_cast<std::int8_t>(bytes_of(b).v[i]);
      const auto code = static_cast<std::int8_t>(bytes_of(a).v[i]);
      return byte < 0 ? -code : byte == 0 ? 0 : int{code};
    });
    return dot(acc, magnitudes, negated);
  }
  static I first_operand(I a) {
    return kSignedCodes ? a : each_byte([&](int i) { return bytes_of(a).v[i] ^ 0x80; });
  }
  static I pair_sums(I a) {
    return each_half([&](int i) {
      return static_cast<std::int8_t>(bytes_of(a).v[2 * i]) +
             static_cast<std::int8_t>(bytes_of(a).v[2 * i + 1]);
    });
  }
  static I within_limit(I sums) {
    return each_half([&](int i) {
      const int sum = halves_of(sums).v[i];
      return sum > kPairLimit ? kPairLimit : sum < -kPairLimit ? -kPairLimit : sum;
    });
  }
  static I sub16(I a, I b) {
    return each_half([&](int i) { return halves_of(a).v[i] - halves_of(b).v[i]; });
  }
  static std::uint32_t nonzero_lanes(I a) {
    std::uint32_t found = 0;
    for (int i = 0; i < kWidth; ++i) found |= static_cast<std::uint32_t>(a.v[i] != 0) << i;
    return found;
  }
  static I dot_even(I acc, I words, I b) {
    return each_i([&](int i) {
      auto sum = static_cast<std::uint32_t>(acc.v[i]);
      for (int j = 0; j < 2; ++j) {
        sum += static_cast<std::uint32_t>(halves_of(words).v[2 * i + j] *
                                          static_cast<std::int8_t>(bytes_of(b).v[4 * i + 2 * j]));
      }
      return static_cast<std::int32_t>(sum);
    });
  }

  // Codes of 4 bits
  static I low_nibbles(I a) {
    return each_byte([&](int i) { return bytes_of(a).v[i] & 15; });
  }
  static I high_nibbles(I a) {
    return each_byte([&](int i) { return bytes_of(a).v[i] >> 4; });
  }
  static I load_table(const std::uint8_t* table) {
    return each_byte([&](int i) { return table[i % 16]; });
  }
  static I lookup(I table, I bytes) {
    return each_byte(
        [&](int i) { return bytes_of(table).v[i / 16 * 16 + bytes_of(bytes).v[i] % 16]; });
  }
  static F lookup_f32(const float* table, I index) {
    return each([&](int i) { return table[index.v[i]]; });
  }
  /// Pairs of products, added to lanes that wrap; none is beyond 16 bits.
  static I dot16(I acc, I a, I b) {
    return each_half([&](int i) {
      const int first = byte_of(a, 2 * i) * static_cast<std::int8_t>(bytes_of(b).v[2 * i]);
      const int second = byte_of(a, 2 * i + 1) * static_cast<std::int8_t>(bytes_of(b).v[2 * i + 1]);
      return halves_of(acc).v[i] + first + second;
    });
  }
  static I keep(I a) { return a; }
  static I sum_pairs16(I a) {
    return each_i([&](int i) { return halves_of(a).v[2 * i] + halves_of(a).v[2 * i + 1]; });
  }
  static I add16(I a, I b) {
    return each_half([&](int i) { return halves_of(a).v[i] + halves_of(b).v[i]; });
  }
  static I mul16(I a, I b) {
    return each_half([&](int i) { return halves_of(a).v[i] * halves_of(b).v[i]; });
  }
  static I twice16(I a) {
    return each_half([&](int i) { return halves_of(a).v[i / 2 * 2]; });
  }
  static I add_i(I a, I b) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) +
                                       static_cast<std::uint32_t>(b.v[i]));
    });
  }
  static I mul_i(I a, I b) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) *
                                       static_cast<std::uint32_t>(b.v[i]));
    });
  }
  static I shift_right(I a, int bits) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) >> bits);
    });
  }
  static I shift_left(I a, int bits) {
    return each_i([&](int i) {
      return static_cast<std::int32_t>(static_cast<std::uint32_t>(a.v[i]) << bits);
    });
  }

 private:
  struct Bytes {
    std::uint8_t v[4 * kWidth];
  };
  struct Halves {
    std::int16_t v[2 * kWidth];
  };
  static Bytes bytes_of(I a) { return std::bit_cast<Bytes>(a); }
  static Halves halves_of(I a) { return std::bit_cast<Halves>(a); }
  /// Of the activations' side.
  static int byte_of(I a, int i) {
    const std::uint8_t byte = bytes_of(a).v[i];
    return kSignedCodes ? int{static_cast<std::int8_t>(byte)} : int{byte};
  }
  template <class Function>
  static I each_byte(Function&& f) {
    Bytes bytes;
    for (int i = 0; i < 4 * kWidth; ++i) bytes.v[i] = static_cast<std::uint8_t>(f(i));
    return std::bit_cast<I>(bytes);
  }
  template <class Function>
  static I each_half(Function&& f) {
    Halves halves;
    for (int i = 0; i < 2 * kWidth; ++i) halves.v[i] = static_cast<std::int16_t>(f(i));
    return std::bit_cast<I>(halves);
  }
  static I multiply_signed(I acc, I a, I b) {
    return each_i([&](int i) {
      auto sum = static_cast<std::uint32_t>(acc.v[i]);
      for (int j = 4 * i; j < 4 * i + 4; ++j) {
        sum += static_cast<std::uint32_t>(static_cast<std::int8_t>(bytes_of(a).v[j]) *
                                          static_cast<std::int8_t>(bytes_of(b).v[j]));
      }
      return static_cast<std::int32_t>(sum);
    });
  }
  static I multiply(I acc, I a, I b, bool in_16_bits) {
    I r = acc;
    for (int i = 0; i < kWidth; ++i) {
      std::int8_t w[4];
      std::memcpy(w, &b.v[i], 4);
      auto sum = static_cast<std::uint32_t>(acc.v[i]);
      for (int j = 0; j < 4; j += 2) {
        int pair = byte_of(a, 4 * i + j) * w[j] + byte_of(a, 4 * i + j + 1) * w[j + 1];
        if (in_16_bits && kDot == EmulatedDot::smull) {
          pair = static_cast<std::int16_t>(pair);
        } else if (in_16_bits) {
          pair = pair > 32767 ? 32767 : pair < -32768 ? -32768 : pair;
        }
        sum += static_cast<std::uint32_t>(pair);
      }
      r.v[i] = static_cast<std::int32_t>(sum);
    }
    return r;
  }
};

using EmulatedAvx2 = EmulatedSimd<8, EmulatedDot::maddubs, 6, 2>;
using EmulatedAvxVnni = EmulatedSimd<8, EmulatedDot::dpbusd, 6, 2>;
using EmulatedAvx512 = EmulatedSimd<16, EmulatedDot::maddubs, 8, 3>;
using EmulatedAvx512Vnni = EmulatedSimd<16, EmulatedDot::dpbusd, 8, 3>;
using EmulatedNeon = EmulatedSimd<4, EmulatedDot::smull, 8, 3>;
using EmulatedNeonDotprod = EmulatedSimd<4, EmulatedDot::sdot, 8, 3>;

/// Products of two rows by two columns, 8 codes each.
struct EmulatedNeonI8mm : EmulatedNeon {
  static I dot_pairs(I acc, I a, I b) {
    std::int8_t x[16];
    std::int8_t w[16];
    std::memcpy(x, a.v, 16);
    std::memcpy(w, b.v, 16);
    return each_i([&](int i) {
      auto sum = static_cast<std::uint32_t>(acc.v[i]);
      for (int k = 0; k < 8; ++k) {
        sum += static_cast<std::uint32_t>(x[i / 2 * 8 + k] * w[i % 2 * 8 + k]);
      }
      return static_cast<std::int32_t>(sum);
    });
  }
  static I first_row(I low, I high) { return {low.v[0], low.v[1], high.v[0], high.v[1]}; }
  static I second_row(I low, I high) { return {low.v[2], low.v[3], high.v[2], high.v[3]}; }
};

}  // namespace
}  // namespace kvant
