#pragma once

// AVX-512 (F, BW, VL, DQ) as the traits type S of the microkernel templates: 16 lanes, one
// instruction per member. Masks live in mask registers. Avx512Vnni replaces the multiplication.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "cpu/x86/simd_avx2.hpp"

namespace kvant {
namespace {

struct Avx512 {
  static constexpr int kLanes = 16;
  using Narrow = Avx2;  ///< with lanes enough for kRows
  using F = __m512;
  using I = __m512i;
  using M = __mmask16;

  static F set1(float v) noexcept { return _mm512_set1_ps(v); }
  static I zero_i() noexcept { return _mm512_setzero_si512(); }

  static F load_f32(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static F load_f16(const std::uint16_t* p) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    const __m256i half = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
  }
  static I load_i32(const std::int32_t* p) noexcept { return _mm512_loadu_si512(p); }
  static I load_i8(const std::int8_t* p) noexcept {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I load_i16(const std::int16_t* p) noexcept {
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static I load_u8(const std::uint8_t* p) noexcept {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  static void store_f32(float* p, F v) noexcept { _mm512_storeu_ps(p, v); }
  static void store_f16(std::uint16_t* p, F v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_bf16(std::uint16_t* p, F v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(bf16_bits(v), 16)));
  }
  static void store_i32(std::int32_t* p, I v) noexcept { _mm512_storeu_si512(p, v); }
  /// Values in -128..127.
  static void store_i8(std::int8_t* p, I v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  /// Values in -128..127, stored + 128.
  static void store_i8_offset(std::uint8_t* p, I v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm512_cvtepi32_epi8(_mm512_add_epi32(v, _mm512_set1_epi32(128))));
  }
  /// The low byte of each lane.
  static void store_low_bytes(std::int8_t* p, I v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }

  static F add(F a, F b) noexcept { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) noexcept { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) noexcept { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) noexcept { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) noexcept { return _mm512_fmadd_ps(a, b, c); }
  /// b where either is NaN.
  static F min(F a, F b) noexcept { return _mm512_min_ps(a, b); }
  static F max(F a, F b) noexcept { return _mm512_max_ps(a, b); }
  static F abs(F a) noexcept { return _mm512_andnot_ps(_mm512_set1_ps(-0.0f), a); }
  static F round(F a) noexcept {
    return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F bit_and(F a, I mask) noexcept { return _mm512_and_ps(a, _mm512_castsi512_ps(mask)); }
  static F round_f16(F a) noexcept {
    return _mm512_cvtph_ps(_mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static F round_bf16(F a) noexcept {
    return _mm512_castsi512_ps(
        _mm512_and_si512(bf16_bits(a), _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  static I set1_i(std::int32_t v) noexcept { return _mm512_set1_epi32(v); }
  /// Byte 0..3 of each lane, as a signed number.
  static I signed_byte(I a, int byte) noexcept {
    return _mm512_srai_epi32(_mm512_sll_epi32(a, _mm_cvtsi32_si128(24 - 8 * byte)), 24);
  }
  static I and_i(I a, I b) noexcept { return _mm512_and_si512(a, b); }
  static I xor_i(I a, I b) noexcept { return _mm512_xor_si512(a, b); }
  static I sub_i(I a, I b) noexcept { return _mm512_sub_epi32(a, b); }
  /// The bits of |a|, ordered as unsigned integers; NaN above infinity.
  static I abs_bits(F a) noexcept {
    return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7FFFFFFF));
  }
  static I max_u32(I a, I b) noexcept { return _mm512_max_epu32(a, b); }
  /// The same for the unsigned halves of the lanes.
  static I max_u16(I a, I b) noexcept { return _mm512_max_epu16(a, b); }
  static bool any_at_least_u16(I a, std::uint16_t limit) noexcept {
    return at_least_u16(a, limit) != 0;
  }
  static bool any_at_least_u32(I a, std::uint32_t limit) noexcept {
    return at_least_u32(a, limit) != 0;
  }
  /// flags[i] = 1 where word (or lane) i is at least the limit; the others stay.
  static void mark_at_least_u16(I a, std::uint16_t limit, std::uint8_t* flags) noexcept {
    auto* to = reinterpret_cast<__m256i*>(flags);
    const __m256i ones = _mm256_maskz_set1_epi8(at_least_u16(a, limit), 1);
    _mm256_storeu_si256(to, _mm256_or_si256(_mm256_loadu_si256(to), ones));
  }
  static void mark_at_least_u32(I a, std::uint32_t limit, std::uint8_t* flags) noexcept {
    auto* to = reinterpret_cast<__m128i*>(flags);
    const __m128i ones = _mm_maskz_set1_epi8(at_least_u32(a, limit), 1);
    _mm_storeu_si128(to, _mm_or_si128(_mm_loadu_si128(to), ones));
  }
  /// Words (lanes) that are not below the limit become zero.
  static I keep_below_u16(I a, std::uint16_t limit) noexcept {
    return _mm512_maskz_mov_epi16(~at_least_u16(a, limit), a);
  }
  static I keep_below_u32(I a, std::uint32_t limit) noexcept {
    return _mm512_maskz_mov_epi32(static_cast<__mmask16>(~at_least_u32(a, limit)), a);
  }
  static I to_i32(F a) noexcept { return _mm512_cvtps_epi32(a); }
  static F to_f32(I a) noexcept { return _mm512_cvtepi32_ps(a); }

  /// The bf16 numbers in the lower halves of the lanes, and in the upper ones.
  static F low_bf16(I words) noexcept { return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16)); }
  static F high_bf16(I words) noexcept {
    return _mm512_castsi512_ps(
        _mm512_and_si512(words, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  /// The low words of both, in the lower and the upper halves of the lanes.
  static I join_words(I low, I high) noexcept {
    return _mm512_mask_blend_epi16(0xAAAAAAAA, low, _mm512_slli_epi32(high, 16));
  }
  /// Two vectors of words in -128..127 as bytes, in order. The packing instruction works within 128
  /// bits, the permutation puts its pieces right.
  static I narrow_words(I a, I b) noexcept {
    const I order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return _mm512_permutexvar_epi64(order, _mm512_packs_epi16(a, b));
  }
  /// Four vectors of values in -128..127 as bytes, in order.
  static I narrow_lanes(I a, I b, I c, I d) noexcept {
    const I mixed = _mm512_packs_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
    const I order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    return _mm512_permutexvar_epi32(order, mixed);
  }

  static M greater_equal(F a, F b) noexcept { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
  static M is_nan(F a) noexcept { return _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q); }
  static M mask_or(M a, M b) noexcept { return static_cast<M>(a | b); }
  static M first_lanes(int count) noexcept { return static_cast<M>((1u << count) - 1u); }
  static bool any(M m) noexcept { return m != 0; }
  static std::uint32_t bits(M m) noexcept { return m; }
  static F zero_where(M m, F a) noexcept { return _mm512_maskz_mov_ps(static_cast<M>(~m), a); }
  static F select(M m, F yes, F no) noexcept { return _mm512_mask_blend_ps(m, no, yes); }

  static float horizontal_max(F a) noexcept { return _mm512_reduce_max_ps(a); }
  static float horizontal_min(F a) noexcept { return _mm512_reduce_min_ps(a); }

  // GEMM without VNNI: vpmaddubsw on pairs of signed bytes within kPairLimit, as AVX2 does. The
  // tile is 8 rows x 48 columns: 24 accumulators of 32 registers.
  static constexpr int kRows = 8;
  static constexpr int kVectors = 3;
  static constexpr int kGroup = 4;
  static constexpr int kBytesB = 64;
  static constexpr int kMaxAccumulators = 24;
  static constexpr int kPairLimit = 128;
  static constexpr bool kSignedCodes = false;
  static constexpr int panels(int rows) noexcept { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }
  static constexpr std::ptrdiff_t kStreamAhead = 2048;
  static I broadcast_a(const unsigned char* p) noexcept {
    std::int32_t group;
    __builtin_memcpy(&group, p, sizeof(group));
    return _mm512_set1_epi32(group);
  }
  static I load_b(const std::int8_t* p) noexcept { return _mm512_loadu_si512(p); }
  static I dot(I acc, I a, I b) noexcept {
    return _mm512_add_epi32(acc,
                            _mm512_madd_epi16(_mm512_maddubs_epi16(a, b), _mm512_set1_epi16(1)));
  }
  /// The same for any bytes: even and odd ones apart, widened to 16 bits.
  static I dot_unlimited(I acc, I a, I b) noexcept {
    const I a_even = _mm512_and_si512(a, _mm512_set1_epi16(255));
    const I a_odd = _mm512_srli_epi16(a, 8);
    return _mm512_add_epi32(acc, _mm512_add_epi32(_mm512_madd_epi16(a_even, even_bytes(b)),
                                                  _mm512_madd_epi16(a_odd, odd_bytes(b))));
  }
  /// 4 products of signed bytes per lane, widened.
  static I dot_signed(I acc, I a, I b) noexcept {
    return _mm512_add_epi32(acc, _mm512_add_epi32(_mm512_madd_epi16(even_bytes(a), even_bytes(b)),
                                                  _mm512_madd_epi16(odd_bytes(a), odd_bytes(b))));
  }
  /// The same where no byte of a is -128: the signs of b go over to a.
  static I dot_by_signs(I acc, I a, I b) noexcept {
    const I negated = _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), zero_i(), a);
    return dot(acc, _mm512_abs_epi8(b), negated);
  }
  /// Signed bytes as dot takes them on its first side: + 128.
  static I first_operand(I a) noexcept {
    return _mm512_xor_si512(a, _mm512_set1_epi8(static_cast<char>(0x80)));
  }
  /// Sums of neighbouring signed bytes, in 16 bits.
  static I pair_sums(I a) noexcept { return _mm512_maddubs_epi16(_mm512_set1_epi8(1), a); }
  /// Such sums, no farther from 0 than kPairLimit.
  static I within_limit(I sums) noexcept {
    return _mm512_min_epi16(_mm512_max_epi16(sums, _mm512_set1_epi16(-kPairLimit)),
                            _mm512_set1_epi16(kPairLimit));
  }
  static I sub16(I a, I b) noexcept { return _mm512_sub_epi16(a, b); }
  /// A bit for each lane that is not 0.
  static std::uint32_t nonzero_lanes(I a) noexcept { return _mm512_test_epi32_mask(a, a); }
  /// Words of 16 bits times the even signed bytes of b.
  static I dot_even(I acc, I words, I b) noexcept {
    return _mm512_add_epi32(acc, _mm512_madd_epi16(words, even_bytes(b)));
  }

  // Codes of 4 bits (gemm_nibbles.hpp).
  /// The low and the high half of each byte.
  static I low_nibbles(I a) noexcept { return _mm512_and_si512(a, _mm512_set1_epi8(15)); }
  static I high_nibbles(I a) noexcept { return low_nibbles(_mm512_srli_epi16(a, 4)); }
  /// table[byte] for bytes 0..15.
  static I load_table(const std::uint8_t* table) noexcept {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  static I lookup(I table, I bytes) noexcept { return _mm512_shuffle_epi8(table, bytes); }
  static F lookup_f32(const float* table, I index) noexcept {
    return _mm512_permutexvar_ps(index, _mm512_loadu_ps(table));
  }
  /// Pairs of products of unsigned by signed bytes added to 16-bit lanes, which wrap; a pair must
  /// stay within 16 bits.
  static I dot16(I acc, I a, I b) noexcept {
    return _mm512_add_epi16(acc, _mm512_maddubs_epi16(a, b));
  }
  /// The same, now: g++ adds the products of several steps first otherwise, and spills sums.
  static I keep(I a) noexcept {
    asm("" : "+v"(a));
    return a;
  }
  static I sum_pairs16(I a) noexcept { return _mm512_madd_epi16(a, _mm512_set1_epi16(1)); }
  static I add16(I a, I b) noexcept { return _mm512_add_epi16(a, b); }
  static I mul16(I a, I b) noexcept { return _mm512_mullo_epi16(a, b); }
  /// The low half of each lane in both halves.
  static I twice16(I a) noexcept {
    return _mm512_or_si512(_mm512_slli_epi32(a, 16), _mm512_and_si512(a, set1_i(0xFFFF)));
  }
  static I add_i(I a, I b) noexcept { return _mm512_add_epi32(a, b); }
  static I mul_i(I a, I b) noexcept { return _mm512_mullo_epi32(a, b); }
  static I shift_right(I a, int bits) noexcept {
    return _mm512_srli_epi32(a, static_cast<unsigned>(bits));
  }
  static I shift_left(I a, int bits) noexcept {
    return _mm512_slli_epi32(a, static_cast<unsigned>(bits));
  }

 private:
  /// Signed bytes in 16 bits.
  static I even_bytes(I a) noexcept { return _mm512_srai_epi16(_mm512_slli_epi16(a, 8), 8); }
  static I odd_bytes(I a) noexcept { return _mm512_srai_epi16(a, 8); }
  static __mmask32 at_least_u16(I a, std::uint16_t limit) noexcept {
    return _mm512_cmpge_epu16_mask(a, _mm512_set1_epi16(static_cast<short>(limit)));
  }
  static __mmask16 at_least_u32(I a, std::uint32_t limit) noexcept {
    return _mm512_cmpge_epu32_mask(a, _mm512_set1_epi32(static_cast<int>(limit)));
  }
  /// v rounded to bf16, in the upper halves of the lanes; NaN stays NaN. (vcvtneps2bf16 would flush
  /// subnormals to zero.)
  static __m512i bf16_bits(F v) noexcept {
    const __m512i bits = _mm512_castps_si512(v);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded =
        _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7FFF)), odd);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    return _mm512_mask_blend_epi32(is_nan(v), rounded, quiet);
  }
};

#if defined(__AVX512BF16__)
/// vdpbf16ps: two products of bf16 per lane and step, summed in float.
struct Avx512Bf16 : Avx512 {
  static F dot_bf16(F acc, I a, I b) noexcept {
    return _mm512_dpbf16_ps(acc, __builtin_bit_cast(__m512bh, a), __builtin_bit_cast(__m512bh, b));
  }
};
#endif

#if defined(__AVX512VNNI__)
/// vpdpbusd: 4 products of unsigned by signed bytes per lane and step. Activations are the unsigned
/// side (code + 128); the epilogue subtracts 128 times the sum of the weights.
struct Avx512Vnni : Avx512 {
  static constexpr int kPairLimit = 0;
  static I dot(I acc, I a, I b) noexcept { return _mm512_dpbusd_epi32(acc, a, b); }
};
#endif

}  // namespace
}  // namespace kvant
