#pragma once

// NEON of ARMv8.0 as the traits type S of the microkernel templates: 4 lanes. Masks are vectors of
// all-ones or all-zeros lanes. NeonDotprod replaces the multiplication, NeonI8mm the product of
// int8.
//
// NEON's own fmin and fmax give NaN where either operand is one, unlike x86 and the contract: min
// and max compare and select.

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace kvant {
namespace {

struct Neon {
  static constexpr int kLanes = 4;
  using Narrow = Neon;
  using F = float32x4_t;
  using I = int32x4_t;
  using M = uint32x4_t;

  static F set1(float v) noexcept { return vdupq_n_f32(v); }
  static I zero_i() noexcept { return vdupq_n_s32(0); }

  // Bytes are loaded and stored: those intrinsics take any address and any type's memory.
  static F load_f32(const float* p) noexcept { return vreinterpretq_f32_u8(load_16(p)); }
  static F load_f16(const std::uint16_t* p) noexcept {
    return vcvt_f32_f16(vreinterpret_f16_u8(load_8(p)));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    return vreinterpretq_f32_u32(vshll_n_u16(vreinterpret_u16_u8(load_8(p)), 16));
  }
  static I load_i32(const std::int32_t* p) noexcept { return vreinterpretq_s32_u8(load_16(p)); }
  static I load_i8(const std::int8_t* p) noexcept {
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(load_4(p)))));
  }
  static I load_i16(const std::int16_t* p) noexcept {
    return vmovl_s16(vreinterpret_s16_u8(load_8(p)));
  }
  static I load_u8(const std::uint8_t* p) noexcept {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(load_4(p)))));
  }

  static void store_f32(float* p, F v) noexcept { store_16(p, vreinterpretq_u8_f32(v)); }
  static void store_f16(std::uint16_t* p, F v) noexcept {
    store_8(p, vreinterpret_u8_f16(vcvt_f16_f32(v)));
  }
  static void store_bf16(std::uint16_t* p, F v) noexcept {
    store_8(p, vreinterpret_u8_u16(vshrn_n_u32(bf16_bits(v), 16)));
  }
  static void store_i32(std::int32_t* p, I v) noexcept { store_16(p, vreinterpretq_u8_s32(v)); }
  /// Values in -128..127.
  static void store_i8(std::int8_t* p, I v) noexcept { store_low_bytes(p, v); }
  /// Values in -128..127, stored + 128.
  static void store_i8_offset(std::uint8_t* p, I v) noexcept {
    store_4(p, low_bytes(vaddq_s32(v, vdupq_n_s32(128))));
  }
  /// The low byte of each lane.
  static void store_low_bytes(std::int8_t* p, I v) noexcept { store_4(p, low_bytes(v)); }

  static F add(F a, F b) noexcept { return vaddq_f32(a, b); }
  static F sub(F a, F b) noexcept { return vsubq_f32(a, b); }
  static F mul(F a, F b) noexcept { return vmulq_f32(a, b); }
  static F div(F a, F b) noexcept { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) noexcept { return vfmaq_f32(c, a, b); }
  /// b where either is NaN.
  static F min(F a, F b) noexcept { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static F max(F a, F b) noexcept { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static F abs(F a) noexcept { return vabsq_f32(a); }
  static F round(F a) noexcept { return vrndnq_f32(a); }
  static F bit_and(F a, I mask) noexcept {
    return vreinterpretq_f32_s32(vandq_s32(vreinterpretq_s32_f32(a), mask));
  }
  static F round_f16(F a) noexcept { return vcvt_f32_f16(vcvt_f16_f32(a)); }
  static F round_bf16(F a) noexcept {
    return vreinterpretq_f32_u32(vandq_u32(bf16_bits(a), vdupq_n_u32(0xFFFF0000u)));
  }
  static I set1_i(std::int32_t v) noexcept { return vdupq_n_s32(v); }
  /// Byte 0..3 of each lane, as a signed number.
  static I signed_byte(I a, int byte) noexcept {
    return vshrq_n_s32(vshlq_s32(a, vdupq_n_s32(24 - 8 * byte)), 24);
  }
  static I and_i(I a, I b) noexcept { return vandq_s32(a, b); }
  static I xor_i(I a, I b) noexcept { return veorq_s32(a, b); }
  static I sub_i(I a, I b) noexcept { return vsubq_s32(a, b); }
  /// The bits of |a|, ordered as unsigned integers; NaN above infinity.
  static I abs_bits(F a) noexcept { return vreinterpretq_s32_f32(vabsq_f32(a)); }
  static I max_u32(I a, I b) noexcept {
    return signed_of(vmaxq_u32(unsigned_of(a), unsigned_of(b)));
  }
  /// The same for the unsigned halves of the lanes.
  static I max_u16(I a, I b) noexcept {
    return vreinterpretq_s32_u16(vmaxq_u16(words_of(a), words_of(b)));
  }
  static bool any_at_least_u16(I a, std::uint16_t limit) noexcept {
    return vmaxvq_u16(words_of(a)) >= limit;
  }
  static bool any_at_least_u32(I a, std::uint32_t limit) noexcept {
    return vmaxvq_u32(unsigned_of(a)) >= limit;
  }
  /// flags[i] = 1 where word (or lane) i is at least the limit; the others stay.
  static void mark_at_least_u16(I a, std::uint16_t limit, std::uint8_t* flags) noexcept {
    const uint8x8_t bytes = vmovn_u16(vcgeq_u16(words_of(a), vdupq_n_u16(limit)));
    store_8(flags, vorr_u8(load_8(flags), vand_u8(bytes, vdup_n_u8(1))));
  }
  static void mark_at_least_u32(I a, std::uint32_t limit, std::uint8_t* flags) noexcept {
    const uint8x8_t bytes = low_bytes(signed_of(vcgeq_u32(unsigned_of(a), vdupq_n_u32(limit))));
    store_4(flags, vorr_u8(load_4(flags), vand_u8(bytes, vdup_n_u8(1))));
  }
  /// Words (lanes) that are not below the limit become zero.
  static I keep_below_u16(I a, std::uint16_t limit) noexcept {
    const uint16x8_t below = vcltq_u16(words_of(a), vdupq_n_u16(limit));
    return vandq_s32(a, vreinterpretq_s32_u16(below));
  }
  static I keep_below_u32(I a, std::uint32_t limit) noexcept {
    return vandq_s32(a, signed_of(vcltq_u32(unsigned_of(a), vdupq_n_u32(limit))));
  }
  static I to_i32(F a) noexcept { return vcvtnq_s32_f32(a); }
  static F to_f32(I a) noexcept { return vcvtq_f32_s32(a); }

  /// The bf16 numbers in the lower halves of the lanes, and in the upper ones.
  static F low_bf16(I words) noexcept { return vreinterpretq_f32_s32(vshlq_n_s32(words, 16)); }
  static F high_bf16(I words) noexcept {
    return vreinterpretq_f32_u32(vandq_u32(unsigned_of(words), vdupq_n_u32(0xFFFF0000u)));
  }
  /// The low words of both, in the lower and the upper halves of the lanes.
  static I join_words(I low, I high) noexcept { return vsliq_n_s32(low, high, 16); }
  /// Two vectors of words in -128..127 as bytes, in order.
  static I narrow_words(I a, I b) noexcept {
    return vreinterpretq_s32_s8(vuzp1q_s8(bytes_of(a), bytes_of(b)));
  }
  /// Four vectors of values in -128..127 as bytes, in order.
  static I narrow_lanes(I a, I b, I c, I d) noexcept {
    const int16x8_t first = vuzp1q_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b));
    const int16x8_t second = vuzp1q_s16(vreinterpretq_s16_s32(c), vreinterpretq_s16_s32(d));
    return narrow_words(vreinterpretq_s32_s16(first), vreinterpretq_s32_s16(second));
  }

  static M greater_equal(F a, F b) noexcept { return vcgeq_f32(a, b); }
  static M is_nan(F a) noexcept { return vmvnq_u32(vceqq_f32(a, a)); }
  static M mask_or(M a, M b) noexcept { return vorrq_u32(a, b); }
  static M first_lanes(int count) noexcept { return vcgtq_s32(vdupq_n_s32(count), lane_numbers()); }
  static bool any(M m) noexcept { return vmaxvq_u32(m) != 0; }
  static std::uint32_t bits(M m) noexcept {
    return vaddvq_u32(vandq_u32(m, vshlq_u32(vdupq_n_u32(1), lane_numbers())));
  }
  static F zero_where(M m, F a) noexcept {
    return vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(a), m));
  }
  static F select(M m, F yes, F no) noexcept { return vbslq_f32(m, yes, no); }

  static float horizontal_max(F a) noexcept { return vmaxvq_f32(a); }
  static float horizontal_min(F a) noexcept { return vminvq_f32(a); }

  // GEMM: 4 products of signed bytes per lane. smull makes words of them, pairs of which are summed
  // in 16 bits: exact but for two neighbouring bytes of -128 on both sides, whose sum of 32768
  // wraps. The tile is 8 rows x 12 columns: 24 accumulators of 32 registers.
  static constexpr int kRows = 8;
  static constexpr int kVectors = 3;
  static constexpr int kGroup = 4;
  static constexpr int kBytesB = 16;
  static constexpr int kMaxAccumulators = 24;
  static constexpr int kPairLimit = 255;
  static constexpr bool kSignedCodes = true;
  static constexpr int panels(int rows) noexcept { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }
  static constexpr std::ptrdiff_t kStreamAhead = 0;
  static I broadcast_a(const unsigned char* p) noexcept {
    std::int32_t group;
    __builtin_memcpy(&group, p, sizeof(group));
    return vdupq_n_s32(group);
  }
  static I load_b(const std::int8_t* p) noexcept { return vreinterpretq_s32_u8(load_16(p)); }
  static I dot(I acc, I a, I b) noexcept { return vpadalq_s16(acc, pairs(a, b)); }
  static I dot_unlimited(I acc, I a, I b) noexcept {
    return vaddq_s32(acc,
                     vpaddq_s32(vpaddlq_s16(low_products(a, b)), vpaddlq_s16(high_products(a, b))));
  }
  // (Both sides are signed here: nothing is to be done about signs.)
  static I dot_signed(I acc, I a, I b) noexcept { return dot_unlimited(acc, a, b); }
  static I dot_by_signs(I acc, I a, I b) noexcept { return dot_unlimited(acc, a, b); }
  static I first_operand(I a) noexcept { return a; }
  /// Sums of neighbouring signed bytes, in 16 bits.
  static I pair_sums(I a) noexcept { return vreinterpretq_s32_s16(vpaddlq_s8(bytes_of(a))); }
  /// Such sums, no farther from 0 than kPairLimit.
  static I within_limit(I sums) noexcept {
    const int16x8_t above = vmaxq_s16(vreinterpretq_s16_s32(sums), vdupq_n_s16(-kPairLimit));
    return vreinterpretq_s32_s16(vminq_s16(above, vdupq_n_s16(kPairLimit)));
  }
  static I sub16(I a, I b) noexcept {
    return vreinterpretq_s32_s16(vsubq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
  }
  /// A bit for each lane that is not 0.
  static std::uint32_t nonzero_lanes(I a) noexcept { return bits(vtstq_s32(a, a)); }
  /// Words of 16 bits times the even signed bytes of b.
  static I dot_even(I acc, I words, I b) noexcept {
    const int16x8_t x = vreinterpretq_s16_s32(words);
    const int16x8_t even = vshrq_n_s16(vshlq_n_s16(vreinterpretq_s16_s32(b), 8), 8);
    return vaddq_s32(
        acc, vpaddq_s32(vmull_s16(vget_low_s16(x), vget_low_s16(even)), vmull_high_s16(x, even)));
  }

  // Codes of 4 bits (gemm_nibbles.hpp).
  /// The low and the high half of each byte.
  static I low_nibbles(I a) noexcept { return vandq_s32(a, vreinterpretq_s32_s8(vdupq_n_s8(15))); }
  static I high_nibbles(I a) noexcept {
    return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(a), 4));
  }
  /// table[byte] for bytes 0..15.
  static I load_table(const std::uint8_t* table) noexcept {
    return vreinterpretq_s32_u8(load_16(table));
  }
  static I lookup(I table, I bytes) noexcept {
    return vreinterpretq_s32_s8(vqtbl1q_s8(bytes_of(table), vreinterpretq_u8_s32(bytes)));
  }
  /// The four bytes of each float are looked up among the 64 of the table.
  static F lookup_f32(const float* table, I index) noexcept {
    const uint8x16x4_t bytes = {
        {load_16(table), load_16(table + 4), load_16(table + 8), load_16(table + 12)}};
    const uint32x4_t at =
        vmlaq_u32(vdupq_n_u32(0x03020100u), unsigned_of(index), vdupq_n_u32(0x04040404u));
    return vreinterpretq_f32_u8(vqtbl4q_u8(bytes, vreinterpretq_u8_u32(at)));
  }
  /// Pairs of products of bytes added to 16-bit lanes, which wrap; a pair must stay within 16 bits.
  static I dot16(I acc, I a, I b) noexcept {
    return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(acc), pairs(a, b)));
  }
  /// The same, now: g++ adds the products of several steps first otherwise, and spills sums.
  static I keep(I a) noexcept {
    asm("" : "+w"(a));
    return a;
  }
  static I sum_pairs16(I a) noexcept { return vpaddlq_s16(vreinterpretq_s16_s32(a)); }
  static I add16(I a, I b) noexcept {
    return vreinterpretq_s32_s16(vaddq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
  }
  static I mul16(I a, I b) noexcept {
    return vreinterpretq_s32_s16(vmulq_s16(vreinterpretq_s16_s32(a), vreinterpretq_s16_s32(b)));
  }
  /// The low half of each lane in both halves.
  static I twice16(I a) noexcept { return vsliq_n_s32(a, a, 16); }
  static I add_i(I a, I b) noexcept { return vaddq_s32(a, b); }
  static I mul_i(I a, I b) noexcept { return vmulq_s32(a, b); }
  static I shift_right(I a, int bits) noexcept {
    return signed_of(vshlq_u32(unsigned_of(a), vdupq_n_s32(-bits)));
  }
  static I shift_left(I a, int bits) noexcept {
    return signed_of(vshlq_u32(unsigned_of(a), vdupq_n_s32(bits)));
  }

 protected:
  static int8x16_t bytes_of(I a) noexcept { return vreinterpretq_s8_s32(a); }

 private:
  static uint8x16_t load_16(const void* p) noexcept {
    return vld1q_u8(static_cast<const std::uint8_t*>(p));
  }
  static uint8x8_t load_8(const void* p) noexcept {
    return vld1_u8(static_cast<const std::uint8_t*>(p));
  }
  static uint8x8_t load_4(const void* p) noexcept {
    std::uint32_t word;
    __builtin_memcpy(&word, p, sizeof(word));
    return vreinterpret_u8_u32(vdup_n_u32(word));
  }
  static void store_16(void* p, uint8x16_t v) noexcept {
    vst1q_u8(static_cast<std::uint8_t*>(p), v);
  }
  static void store_8(void* p, uint8x8_t v) noexcept { vst1_u8(static_cast<std::uint8_t*>(p), v); }
  static void store_4(void* p, uint8x8_t v) noexcept {
    const std::uint32_t word = vget_lane_u32(vreinterpret_u32_u8(v), 0);
    __builtin_memcpy(p, &word, sizeof(word));
  }
  static uint32x4_t unsigned_of(I a) noexcept { return vreinterpretq_u32_s32(a); }
  static I signed_of(uint32x4_t a) noexcept { return vreinterpretq_s32_u32(a); }
  static uint16x8_t words_of(I a) noexcept { return vreinterpretq_u16_s32(a); }
  static I lane_numbers() noexcept {
    return vreinterpretq_s32_u64(
        vcombine_u64(vcreate_u64(0x100000000u), vcreate_u64(0x300000002u)));
  }
  /// The low byte of each lane, in the first four bytes.
  static uint8x8_t low_bytes(I v) noexcept {
    const uint16x4_t words = vmovn_u32(unsigned_of(v));
    return vmovn_u16(vcombine_u16(words, words));
  }
  static int16x8_t low_products(I a, I b) noexcept {
    return vmull_s8(vget_low_s8(bytes_of(a)), vget_low_s8(bytes_of(b)));
  }
  static int16x8_t high_products(I a, I b) noexcept {
    return vmull_high_s8(bytes_of(a), bytes_of(b));
  }
  static int16x8_t pairs(I a, I b) noexcept {
    return vpaddq_s16(low_products(a, b), high_products(a, b));
  }
  /// v rounded to bf16, in the upper halves of the lanes; NaN stays NaN.
  static uint32x4_t bf16_bits(F v) noexcept {
    const uint32x4_t bits = vreinterpretq_u32_f32(v);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    const uint32x4_t rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0x7FFF)), odd);
    const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
    return vbslq_u32(is_nan(v), quiet, rounded);
  }
};

#if defined(__ARM_FEATURE_DOTPROD)
/// sdot: 4 products of signed bytes per lane and step, exact.
struct NeonDotprod : Neon {
  static constexpr int kPairLimit = 0;
  static I dot(I acc, I a, I b) noexcept { return vdotq_s32(acc, bytes_of(a), bytes_of(b)); }
};
#endif

#if defined(__ARM_FEATURE_MATMUL_INT8)
/// smmla: two rows by two columns of 8 products of signed bytes each, exact (gemm_pairs.hpp).
struct NeonI8mm : Neon {
  static I dot_pairs(I acc, I a, I b) noexcept { return vmmlaq_s32(acc, bytes_of(a), bytes_of(b)); }
  /// Of two results for neighbouring pairs of columns: the four sums of the first row, and of the
  /// second.
  static I first_row(I low, I high) noexcept {
    return vcombine_s32(vget_low_s32(low), vget_low_s32(high));
  }
  static I second_row(I low, I high) noexcept {
    return vcombine_s32(vget_high_s32(low), vget_high_s32(high));
  }
};
#endif

}  // namespace
}  // namespace kvant
