#pragma once

// AVX2 + FMA + F16C as the traits type S of the microkernel templates: 8 lanes, one instruction per
// member where the instruction set has it. Masks are vectors of all-ones or all-zeros lanes.

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace kvant {
namespace {

struct Avx2 {
  static constexpr int kLanes = 8;
  using Narrow = Avx2;  ///< with lanes enough for kRows
  using F = __m256;
  using I = __m256i;
  using M = __m256;

  static F set1(float v) noexcept { return _mm256_set1_ps(v); }
  static I zero_i() noexcept { return _mm256_setzero_si256(); }

  static F load_f32(const float* p) noexcept { return _mm256_loadu_ps(p); }
  static F load_f16(const std::uint16_t* p) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
  }
  static I load_i32(const std::int32_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I load_i8(const std::int8_t* p) noexcept {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static I load_i16(const std::int16_t* p) noexcept {
    return _mm256_cvtepi16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static I load_u8(const std::uint8_t* p) noexcept {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }

  static void store_f32(float* p, F v) noexcept { _mm256_storeu_ps(p, v); }
  static void store_f16(std::uint16_t* p, F v) noexcept {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                     _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static void store_bf16(std::uint16_t* p, F v) noexcept {
    const __m256i high = _mm256_srli_epi32(bf16_bits(v), 16);
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(high), _mm256_extracti128_si256(high, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), packed);
  }
  static void store_i32(std::int32_t* p, I v) noexcept {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v);
  }
  /// Values in -128..127.
  static void store_i8(std::int8_t* p, I v) noexcept {
    const __m128i w = words(v);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(w, w));
  }
  /// Values in -128..127, stored + 128.
  static void store_i8_offset(std::uint8_t* p, I v) noexcept {
    const __m128i w = words(_mm256_add_epi32(v, _mm256_set1_epi32(128)));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(w, w));
  }
  /// The low byte of each lane; values in -128..255.
  static void store_low_bytes(std::int8_t* p, I v) noexcept {
    const __m128i w = words(_mm256_and_si256(v, _mm256_set1_epi32(255)));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(w, w));
  }

  static F add(F a, F b) noexcept { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) noexcept { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) noexcept { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) noexcept { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) noexcept { return _mm256_fmadd_ps(a, b, c); }
  /// b where either is NaN.
  static F min(F a, F b) noexcept { return _mm256_min_ps(a, b); }
  static F max(F a, F b) noexcept { return _mm256_max_ps(a, b); }
  static F abs(F a) noexcept { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F round(F a) noexcept {
    return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  }
  static F bit_and(F a, I mask) noexcept { return _mm256_and_ps(a, _mm256_castsi256_ps(mask)); }
  static F round_f16(F a) noexcept {
    return _mm256_cvtph_ps(_mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  }
  static F round_bf16(F a) noexcept {
    return _mm256_castsi256_ps(
        _mm256_and_si256(bf16_bits(a), _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  static I set1_i(std::int32_t v) noexcept { return _mm256_set1_epi32(v); }
  /// Byte 0..3 of each lane, as a signed number.
  static I signed_byte(I a, int byte) noexcept {
    return _mm256_srai_epi32(_mm256_sll_epi32(a, _mm_cvtsi32_si128(24 - 8 * byte)), 24);
  }
  static I and_i(I a, I b) noexcept { return _mm256_and_si256(a, b); }
  static I xor_i(I a, I b) noexcept { return _mm256_xor_si256(a, b); }
  static I sub_i(I a, I b) noexcept { return _mm256_sub_epi32(a, b); }
  /// The bits of |a|, ordered as unsigned integers; NaN above infinity.
  static I abs_bits(F a) noexcept {
    return _mm256_and_si256(_mm256_castps_si256(a), _mm256_set1_epi32(0x7FFFFFFF));
  }
  static I max_u32(I a, I b) noexcept { return _mm256_max_epu32(a, b); }
  /// The same for the unsigned halves of the lanes.
  static I max_u16(I a, I b) noexcept { return _mm256_max_epu16(a, b); }
  static bool any_at_least_u16(I a, std::uint16_t limit) noexcept {
    return _mm256_movemask_epi8(at_least_u16(a, limit)) != 0;
  }
  static bool any_at_least_u32(I a, std::uint32_t limit) noexcept {
    return _mm256_movemask_epi8(at_least_u32(a, limit)) != 0;
  }
  /// flags[i] = 1 where word (or lane) i is at least the limit; the others stay.
  static void mark_at_least_u16(I a, std::uint16_t limit, std::uint8_t* flags) noexcept {
    const I at_least = at_least_u16(a, limit);
    auto* to = reinterpret_cast<__m128i*>(flags);
    const __m128i bytes =
        _mm_packs_epi16(_mm256_castsi256_si128(at_least), _mm256_extracti128_si256(at_least, 1));
    _mm_storeu_si128(to, _mm_or_si128(_mm_loadu_si128(to), _mm_and_si128(bytes, _mm_set1_epi8(1))));
  }
  static void mark_at_least_u32(I a, std::uint32_t limit, std::uint8_t* flags) noexcept {
    const __m128i w = words(at_least_u32(a, limit));
    auto* to = reinterpret_cast<__m128i*>(flags);
    const __m128i bytes = _mm_and_si128(_mm_packs_epi16(w, w), _mm_set1_epi8(1));
    _mm_storel_epi64(to, _mm_or_si128(_mm_loadl_epi64(to), bytes));
  }
  /// Words (lanes) that are not below the limit become zero.
  static I keep_below_u16(I a, std::uint16_t limit) noexcept {
    return _mm256_andnot_si256(at_least_u16(a, limit), a);
  }
  static I keep_below_u32(I a, std::uint32_t limit) noexcept {
    return _mm256_andnot_si256(at_least_u32(a, limit), a);
  }
  static I to_i32(F a) noexcept { return _mm256_cvtps_epi32(a); }
  static F to_f32(I a) noexcept { return _mm256_cvtepi32_ps(a); }

  /// The bf16 numbers in the lower halves of the lanes, and in the upper ones.
  static F low_bf16(I words) noexcept { return _mm256_castsi256_ps(_mm256_slli_epi32(words, 16)); }
  static F high_bf16(I words) noexcept {
    return _mm256_castsi256_ps(
        _mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xFFFF0000u))));
  }
  /// The low words of both, in the lower and the upper halves of the lanes.
  static I join_words(I low, I high) noexcept {
    return _mm256_blend_epi16(low, _mm256_slli_epi32(high, 16), 0xAA);
  }
  /// Two vectors of words in -128..127 as bytes, in order. The packing instruction works within 128
  /// bits, the permutation puts its pieces right.
  static I narrow_words(I a, I b) noexcept {
    return _mm256_permute4x64_epi64(_mm256_packs_epi16(a, b), 0b11'01'10'00);
  }
  /// Four vectors of values in -128..127 as bytes, in order.
  static I narrow_lanes(I a, I b, I c, I d) noexcept {
    const I mixed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    return _mm256_permutevar8x32_epi32(mixed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  }

  static M greater_equal(F a, F b) noexcept { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
  static M is_nan(F a) noexcept { return _mm256_cmp_ps(a, a, _CMP_UNORD_Q); }
  static M mask_or(M a, M b) noexcept { return _mm256_or_ps(a, b); }
  static M first_lanes(int count) noexcept {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(count), lane));
  }
  static bool any(M m) noexcept { return _mm256_movemask_ps(m) != 0; }
  static std::uint32_t bits(M m) noexcept {
    return static_cast<std::uint32_t>(_mm256_movemask_ps(m));
  }
  static F zero_where(M m, F a) noexcept { return _mm256_andnot_ps(m, a); }
  static F select(M m, F yes, F no) noexcept { return _mm256_blendv_ps(no, yes, m); }

  static float horizontal_max(F a) noexcept {
    __m128 v = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    v = _mm_max_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_max_ss(v, _mm_movehdup_ps(v)));
  }
  static float horizontal_min(F a) noexcept {
    __m128 v = _mm_min_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    v = _mm_min_ps(v, _mm_movehl_ps(v, v));
    return _mm_cvtss_f32(_mm_min_ss(v, _mm_movehdup_ps(v)));
  }

  // GEMM: 4 products of unsigned by signed bytes per lane. vpmaddubsw sums pairs in 16 bits and
  // saturates where two signed bytes pass kPairLimit together. The tile is 6 rows x 16 columns: 12
  // accumulators of 16 registers.
  static constexpr int kRows = 6;
  static constexpr int kVectors = 2;
  static constexpr int kGroup = 4;
  static constexpr int kBytesB = 32;
  static constexpr int kMaxAccumulators = 12;
  static constexpr int kPairLimit = 128;
  static constexpr bool kSignedCodes = false;
  static constexpr int panels(int rows) noexcept { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }
  static constexpr std::ptrdiff_t kStreamAhead = 2048;
  static I broadcast_a(const unsigned char* p) noexcept {
    std::int32_t group;
    __builtin_memcpy(&group, p, sizeof(group));
    return _mm256_set1_epi32(group);
  }
  static I load_b(const std::int8_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I dot(I acc, I a, I b) noexcept {
    return _mm256_add_epi32(acc,
                            _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
  }
  /// The same for any bytes: even and odd ones apart, widened to 16 bits.
  static I dot_unlimited(I acc, I a, I b) noexcept {
    const I a_even = _mm256_and_si256(a, _mm256_set1_epi16(255));
    const I a_odd = _mm256_srli_epi16(a, 8);
    return _mm256_add_epi32(acc, _mm256_add_epi32(_mm256_madd_epi16(a_even, even_bytes(b)),
                                                  _mm256_madd_epi16(a_odd, odd_bytes(b))));
  }
  /// 4 products of signed bytes per lane, widened.
  static I dot_signed(I acc, I a, I b) noexcept {
    return _mm256_add_epi32(acc, _mm256_add_epi32(_mm256_madd_epi16(even_bytes(a), even_bytes(b)),
                                                  _mm256_madd_epi16(odd_bytes(a), odd_bytes(b))));
  }
  /// The same where no byte of a is -128: the signs of b go over to a.
  static I dot_by_signs(I acc, I a, I b) noexcept {
    return dot(acc, _mm256_abs_epi8(b), _mm256_sign_epi8(a, b));
  }
  /// Signed bytes as dot takes them on its first side: + 128.
  static I first_operand(I a) noexcept {
    return _mm256_xor_si256(a, _mm256_set1_epi8(static_cast<char>(0x80)));
  }
  /// Sums of neighbouring signed bytes, in 16 bits.
  static I pair_sums(I a) noexcept { return _mm256_maddubs_epi16(_mm256_set1_epi8(1), a); }
  /// Such sums, no farther from 0 than kPairLimit.
  static I within_limit(I sums) noexcept {
    return _mm256_min_epi16(_mm256_max_epi16(sums, _mm256_set1_epi16(-kPairLimit)),
                            _mm256_set1_epi16(kPairLimit));
  }
  static I sub16(I a, I b) noexcept { return _mm256_sub_epi16(a, b); }
  /// A bit for each lane that is not 0.
  static std::uint32_t nonzero_lanes(I a) noexcept {
    const I zeros = _mm256_cmpeq_epi32(a, zero_i());
    return ~static_cast<std::uint32_t>(_mm256_movemask_ps(_mm256_castsi256_ps(zeros))) & 255u;
  }
  /// Words of 16 bits times the even signed bytes of b.
  static I dot_even(I acc, I words, I b) noexcept {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(words, even_bytes(b)));
  }

  // Codes of 4 bits (gemm_nibbles.hpp).
  /// The low and the high half of each byte.
  static I low_nibbles(I a) noexcept { return _mm256_and_si256(a, _mm256_set1_epi8(15)); }
  static I high_nibbles(I a) noexcept { return low_nibbles(_mm256_srli_epi16(a, 4)); }
  /// table[byte] for bytes 0..15.
  static I load_table(const std::uint8_t* table) noexcept {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  }
  static I lookup(I table, I bytes) noexcept { return _mm256_shuffle_epi8(table, bytes); }
  static F lookup_f32(const float* table, I index) noexcept {
    const F low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
    const F high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
  }
  /// Pairs of products of unsigned by signed bytes added to 16-bit lanes, which wrap; a pair must
  /// stay within 16 bits.
  static I dot16(I acc, I a, I b) noexcept {
    return _mm256_add_epi16(acc, _mm256_maddubs_epi16(a, b));
  }
  /// The same, now: g++ adds the products of several steps first otherwise, and spills sums.
  static I keep(I a) noexcept {
    asm("" : "+x"(a));
    return a;
  }
  static I sum_pairs16(I a) noexcept { return _mm256_madd_epi16(a, _mm256_set1_epi16(1)); }
  static I add16(I a, I b) noexcept { return _mm256_add_epi16(a, b); }
  static I mul16(I a, I b) noexcept { return _mm256_mullo_epi16(a, b); }
  /// The low half of each lane in both halves.
  static I twice16(I a) noexcept {
    return _mm256_or_si256(_mm256_slli_epi32(a, 16), _mm256_and_si256(a, set1_i(0xFFFF)));
  }
  static I add_i(I a, I b) noexcept { return _mm256_add_epi32(a, b); }
  static I mul_i(I a, I b) noexcept { return _mm256_mullo_epi32(a, b); }
  static I shift_right(I a, int bits) noexcept { return _mm256_srli_epi32(a, bits); }
  static I shift_left(I a, int bits) noexcept { return _mm256_slli_epi32(a, bits); }

 private:
  /// Signed bytes in 16 bits.
  static I even_bytes(I a) noexcept { return _mm256_srai_epi16(_mm256_slli_epi16(a, 8), 8); }
  static I odd_bytes(I a) noexcept { return _mm256_srai_epi16(a, 8); }
  static I at_least_u16(I a, std::uint16_t limit) noexcept {
    return _mm256_cmpeq_epi16(_mm256_max_epu16(a, _mm256_set1_epi16(static_cast<short>(limit))), a);
  }
  static I at_least_u32(I a, std::uint32_t limit) noexcept {
    return _mm256_cmpeq_epi32(_mm256_max_epu32(a, _mm256_set1_epi32(static_cast<int>(limit))), a);
  }
  static __m128i words(I v) noexcept {
    return _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  }
  /// v rounded to bf16, in the upper halves of the lanes; NaN stays NaN.
  static __m256i bf16_bits(F v) noexcept {
    const __m256i bits = _mm256_castps_si256(v);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded =
        _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7FFF)), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    return _mm256_castps_si256(
        _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), is_nan(v)));
  }
};

}  // namespace
}  // namespace kvant
