#pragma once

// Compares every member of a real traits type with the emulated one, bit for bit, on values chosen
// to be awkward. Included by one translation unit per instruction set (tests/kernels/isa), which is
// compiled with its flags and must use nothing of the standard library but plain functions.

#include <bit>
#include <cstdint>
#include <cstring>

#include "cpu/micro/simd_concept.hpp"
#include "emulated_simd.hpp"

namespace kvant {
namespace {

/// A small generator of bit patterns: random ones, and every class of float.
struct BitSource {
  std::uint64_t state = 0x9E3779B97F4A7C15u;
  std::uint32_t next() {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return static_cast<std::uint32_t>(state >> 16);
  }
  std::uint32_t next_float_bits() {
    constexpr std::uint32_t kSpecial[] = {
        0x00000000, 0x80000000, 0x00000001, 0x807FFFFF, 0x00800000, 0x3F800000, 0xBF000000,
        0x7F7FFFFF, 0xFF7FFFFF, 0x7F800000, 0xFF800000, 0x7FC00000, 0xFFC00001, 0x477FE000,
        0x477FF000, 0x477FEFFF, 0x33000000, 0x33000001, 0x38800000, 0x387FE000, 0x3F808000,
        0x3F818000, 0x40200000, 0xC0600000, 0x42FE0000, 0x42FF0000, 0x4B000000, 0x4EFFFFFF};
    const std::uint32_t r = next();
    switch (r & 3u) {
      case 0: return kSpecial[(r >> 2) % (sizeof(kSpecial) / sizeof(kSpecial[0]))];
      case 1: return next();                                                  // anything
      case 2: return (next() & 0x807FFFFFu) | ((120u + next() % 20u) << 23);  // around one
      default: {                                                              // integers and halves
        const auto n = static_cast<float>(static_cast<int>(next() % 1024u) - 512);
        return std::bit_cast<std::uint32_t>(n * 0.5f);
      }
    }
  }
};

/// Checks S against E. The name of the first member that differs, or null.
template <class S, class E>
const char* compare_simd_members() {
  constexpr int kLanes = S::kLanes;
  static_assert(kLanes == E::kLanes && S::kRows == E::kRows && S::kVectors == E::kVectors);
  static_assert(S::kGroup == E::kGroup && S::kBytesB == E::kBytesB &&
                S::kPairLimit == E::kPairLimit && S::kSignedCodes == E::kSignedCodes);
  static_assert(S::kMaxAccumulators == E::kMaxAccumulators && S::kStreamAhead == E::kStreamAhead);
  for (int rows = 1; rows <= S::kRows; ++rows) {
    if (S::panels(rows) != E::panels(rows)) return "panels";
    if (rows * S::panels(rows) * S::kVectors > S::kMaxAccumulators) return "kMaxAccumulators";
  }
  BitSource bits;
  alignas(64) float nibble_values[16];
  for (float& value : nibble_values) value = static_cast<float>(bits.next() % 1024u) - 512.0f;
  for (int round = 0; round < 20000; ++round) {
    alignas(64) std::uint32_t words[3][kLanes];
    for (auto& row : words) {
      for (auto& w : row) w = bits.next_float_bits();
    }
    alignas(64) float floats[3][kLanes];
    std::memcpy(floats, words, sizeof(floats));
    alignas(64) std::int32_t codes[kLanes];
    for (auto& c : codes) c = static_cast<std::int32_t>(bits.next() % 256u) - 128;
    alignas(64) unsigned char bytes[4 * kLanes];
    for (auto& b : bytes) b = static_cast<unsigned char>(bits.next());

    alignas(64) unsigned char got[4 * kLanes];
    alignas(64) unsigned char want[4 * kLanes];
    std::memset(got, 0, sizeof(got));
    std::memset(want, 0, sizeof(want));
    const auto* halves = reinterpret_cast<const std::uint16_t*>(words);
    const auto same = [&] { return std::memcmp(got, want, sizeof(got)) == 0; };
    // Which NaN an operation on NaNs gives is not part of any member's contract.
    const auto f = [](unsigned char* to, auto s, auto v) {
      decltype(s)::store_f32(reinterpret_cast<float*>(to), v);
      for (int i = 0; i < kLanes; ++i) {
        std::uint32_t w;
        std::memcpy(&w, to + 4 * i, 4);
        if ((w & 0x7FFFFFFFu) > 0x7F800000u) w = 0x7FC00000u;
        std::memcpy(to + 4 * i, &w, 4);
      }
    };
    const auto i = [](unsigned char* to, auto s, auto v) {
      decltype(s)::store_i32(reinterpret_cast<std::int32_t*>(to), v);
    };
    const auto m = [](unsigned char* to, auto s, auto v) {
      const std::uint32_t b = decltype(s)::bits(v);
      std::memcpy(to, &b, 4);
    };
    const S s;
    const E e;

#define KVANT_A(T) T::load_f32(floats[0])
#define KVANT_B(T) T::load_f32(floats[1])
#define KVANT_C(T) T::load_f32(floats[2])
#define KVANT_COMPARE(store, member, ...)     \
  do {                                        \
    {                                         \
      using T = S;                            \
      store(got, s, T::member(__VA_ARGS__));  \
    }                                         \
    {                                         \
      using T = E;                            \
      store(want, e, T::member(__VA_ARGS__)); \
    }                                         \
    if (!same()) return #member;              \
  } while (false)

    KVANT_COMPARE(f, set1, floats[0][0]);
    KVANT_COMPARE(f, load_f32, floats[0]);
    KVANT_COMPARE(f, load_f16, halves);
    KVANT_COMPARE(f, load_bf16, halves);
    KVANT_COMPARE(i, load_i32, codes);
    KVANT_COMPARE(i, load_i8, reinterpret_cast<const std::int8_t*>(bytes));
    KVANT_COMPARE(i, load_u8, bytes);
    KVANT_COMPARE(i, load_i16, reinterpret_cast<const std::int16_t*>(bytes));
    KVANT_COMPARE(i, zero_i, );
    KVANT_COMPARE(f, add, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(f, sub, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(f, mul, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(f, div, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(f, fma, KVANT_A(T), KVANT_B(T), KVANT_C(T));
    KVANT_COMPARE(f, min, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(f, max, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(f, abs, KVANT_A(T));
    KVANT_COMPARE(f, round, KVANT_A(T));
    KVANT_COMPARE(f, bit_and, KVANT_A(T), T::load_i32(codes));
    KVANT_COMPARE(f, round_f16, KVANT_A(T));
    KVANT_COMPARE(f, round_bf16, KVANT_A(T));
    KVANT_COMPARE(i, sub_i, T::load_i32(codes), T::load_i8(reinterpret_cast<std::int8_t*>(bytes)));
    KVANT_COMPARE(i, to_i32,
                  T::min(T::max(KVANT_A(T), T::set1(-0x1p31f)), T::set1(0x1.FFFFFEp30f)));
    KVANT_COMPARE(f, to_f32, T::load_i32(reinterpret_cast<const std::int32_t*>(words[1])));
    KVANT_COMPARE(m, greater_equal, KVANT_A(T), KVANT_B(T));
    KVANT_COMPARE(m, is_nan, KVANT_A(T));
    KVANT_COMPARE(m, mask_or, T::is_nan(KVANT_A(T)), T::is_nan(KVANT_B(T)));
    KVANT_COMPARE(m, first_lanes, round % kLanes);
    KVANT_COMPARE(f, zero_where, T::is_nan(KVANT_A(T)), KVANT_B(T));
    KVANT_COMPARE(f, select, T::is_nan(KVANT_A(T)), KVANT_B(T), KVANT_C(T));
    KVANT_COMPARE(i, broadcast_a, bytes);
    KVANT_COMPARE(i, load_b, reinterpret_cast<const std::int8_t*>(bytes));
    KVANT_COMPARE(i, set1_i, codes[0]);
    KVANT_COMPARE(i, abs_bits, KVANT_A(T));
    KVANT_COMPARE(i, max_u32, T::load_i32(codes),
                  T::load_i32(reinterpret_cast<const std::int32_t*>(words[1])));
    if (S::any_at_least_u32(S::load_i32(codes), words[0][0]) !=
        E::any_at_least_u32(E::load_i32(codes), words[0][0])) {
      return "any_at_least_u32";
    }
    KVANT_COMPARE(i, max_u16, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                  T::load_i32(reinterpret_cast<const std::int32_t*>(words[1])));
    if (S::any_at_least_u16(S::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                            halves[kLanes * 2]) !=
        E::any_at_least_u16(E::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                            halves[kLanes * 2])) {
      return "any_at_least_u16";
    }
    KVANT_COMPARE(i, keep_below_u16, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                  halves[kLanes * 2]);
    KVANT_COMPARE(i, keep_below_u32, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                  words[1][0]);
    KVANT_COMPARE(i, signed_byte, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                  round % 4);
    KVANT_COMPARE(i, and_i, T::load_i32(codes),
                  T::load_i32(reinterpret_cast<const std::int32_t*>(words[1])));
    if constexpr (S::kPairLimit != 0) {
      KVANT_COMPARE(i, dot_unlimited, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                    T::broadcast_a(bytes), T::load_b(reinterpret_cast<const std::int8_t*>(bytes)));
#define KVANT_BYTES(T, from) T::load_b(reinterpret_cast<const std::int8_t*>(from))
      KVANT_COMPARE(i, dot_signed, KVANT_BYTES(T, words[0]), KVANT_BYTES(T, bytes),
                    KVANT_BYTES(T, words[1]));
      KVANT_COMPARE(i, dot_by_signs, KVANT_BYTES(T, words[0]), KVANT_BYTES(T, bytes),
                    KVANT_BYTES(T, words[1]));
      KVANT_COMPARE(i, first_operand, KVANT_BYTES(T, bytes));
      KVANT_COMPARE(i, pair_sums, KVANT_BYTES(T, bytes));
      KVANT_COMPARE(i, within_limit, T::pair_sums(KVANT_BYTES(T, bytes)));
      KVANT_COMPARE(i, sub16, KVANT_BYTES(T, words[0]), KVANT_BYTES(T, words[1]));
      KVANT_COMPARE(i, dot_even, KVANT_BYTES(T, words[0]), T::pair_sums(KVANT_BYTES(T, bytes)),
                    KVANT_BYTES(T, words[1]));
      const auto beyond = [&](auto t) {
        using T = decltype(t);
        const auto sums = T::pair_sums(KVANT_BYTES(T, bytes));
        return T::nonzero_lanes(T::sub16(sums, T::within_limit(sums)));
      };
      if (beyond(S{}) != beyond(E{})) return "nonzero_lanes";
#undef KVANT_BYTES
    }
    KVANT_COMPARE(i, dot, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                  T::broadcast_a(bytes), T::load_b(reinterpret_cast<const std::int8_t*>(bytes)));

    if constexpr (SimdPairs<S>) {
      KVANT_COMPARE(i, dot_pairs, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])),
                    T::load_b(reinterpret_cast<const std::int8_t*>(bytes)),
                    T::load_b(reinterpret_cast<const std::int8_t*>(words[1])));
      KVANT_COMPARE(i, first_row, T::load_i32(codes),
                    T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])));
      KVANT_COMPARE(i, second_row, T::load_i32(codes),
                    T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])));
    }

#define KVANT_WORDS(T, i) T::load_i32(reinterpret_cast<const std::int32_t*>(words[i]))
    KVANT_COMPARE(i, low_nibbles, KVANT_WORDS(T, 0));
    KVANT_COMPARE(i, high_nibbles, KVANT_WORDS(T, 0));
    KVANT_COMPARE(i, lookup, T::load_table(bytes), T::low_nibbles(KVANT_WORDS(T, 0)));
    KVANT_COMPARE(f, lookup_f32, nibble_values, T::and_i(KVANT_WORDS(T, 0), T::set1_i(15)));
    KVANT_COMPARE(i, dot16, KVANT_WORDS(T, 0), T::low_nibbles(KVANT_WORDS(T, 1)),
                  T::broadcast_a(bytes));
    KVANT_COMPARE(i, sum_pairs16, KVANT_WORDS(T, 0));
    KVANT_COMPARE(i, add16, KVANT_WORDS(T, 0), KVANT_WORDS(T, 1));
    KVANT_COMPARE(i, mul16, KVANT_WORDS(T, 0), KVANT_WORDS(T, 1));
    KVANT_COMPARE(i, twice16, KVANT_WORDS(T, 0));
    KVANT_COMPARE(i, add_i, KVANT_WORDS(T, 0), KVANT_WORDS(T, 1));
    KVANT_COMPARE(i, mul_i, KVANT_WORDS(T, 0), KVANT_WORDS(T, 1));
    KVANT_COMPARE(i, shift_right, KVANT_WORDS(T, 0), round % 32);
    KVANT_COMPARE(i, shift_left, KVANT_WORDS(T, 0), round % 32);
#undef KVANT_WORDS

    KVANT_COMPARE(i, xor_i, T::load_i32(codes),
                  T::load_i32(reinterpret_cast<const std::int32_t*>(words[1])));
    KVANT_COMPARE(f, low_bf16, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])));
    KVANT_COMPARE(f, high_bf16, T::load_i32(reinterpret_cast<const std::int32_t*>(words[0])));
    KVANT_COMPARE(i, join_words, T::load_i32(codes),
                  T::load_i8(reinterpret_cast<const std::int8_t*>(bytes)));
#define KVANT_PAIR(T)                                                                         \
  T::join_words(T::load_i32(codes), T::load_i8(reinterpret_cast<const std::int8_t*>(bytes))), \
      T::join_words(T::load_i8(reinterpret_cast<const std::int8_t*>(bytes + kLanes)),         \
                    T::load_i8(reinterpret_cast<const std::int8_t*>(bytes + 2 * kLanes)))
    KVANT_COMPARE(i, narrow_words, KVANT_PAIR(T));
#define KVANT_QUAD(T)                                                          \
  T::load_i32(codes), T::load_i8(reinterpret_cast<const std::int8_t*>(bytes)), \
      T::load_i8(reinterpret_cast<const std::int8_t*>(bytes + kLanes)),        \
      T::load_i8(reinterpret_cast<const std::int8_t*>(bytes + 2 * kLanes))
    KVANT_COMPARE(i, narrow_lanes, KVANT_QUAD(T));

#define KVANT_STORE(member, type, ...)                       \
  do {                                                       \
    std::memset(got, 0, sizeof(got));                        \
    std::memset(want, 0, sizeof(want));                      \
    {                                                        \
      using T = S;                                           \
      T::member(reinterpret_cast<type*>(got), __VA_ARGS__);  \
    }                                                        \
    {                                                        \
      using T = E;                                           \
      T::member(reinterpret_cast<type*>(want), __VA_ARGS__); \
    }                                                        \
    if (!same()) return #member;                             \
  } while (false)
    KVANT_STORE(store_f16, std::uint16_t, KVANT_A(T));
    KVANT_STORE(store_bf16, std::uint16_t, KVANT_A(T));
#define KVANT_MARK(member, limit)                                                             \
  do {                                                                                        \
    for (int b = 0; b < 4 * kLanes; ++b) got[b] = want[b] = bytes[b] & 1; /* flags: 0 or 1 */ \
    S::member(S::load_i32(reinterpret_cast<const std::int32_t*>(words[0])), limit, got);      \
    E::member(E::load_i32(reinterpret_cast<const std::int32_t*>(words[0])), limit, want);     \
    if (!same()) return #member;                                                              \
  } while (false)
    KVANT_MARK(mark_at_least_u16, halves[kLanes * 2]);
    KVANT_MARK(mark_at_least_u32, words[1][0]);
#undef KVANT_MARK
    KVANT_STORE(store_i8, std::int8_t, T::load_i32(codes));
    KVANT_STORE(store_i8_offset, std::uint8_t, T::load_i32(codes));
    KVANT_STORE(store_low_bytes, std::int8_t, T::load_i32(codes));
    KVANT_STORE(store_low_bytes, std::int8_t, T::load_u8(bytes));

    bool finite = true;
    for (float v : floats[0]) finite = finite && v == v;
    if (finite) {
      if (S::horizontal_max(S::load_f32(floats[0])) != E::horizontal_max(E::load_f32(floats[0]))) {
        return "horizontal_max";
      }
      if (S::horizontal_min(S::load_f32(floats[0])) != E::horizontal_min(E::load_f32(floats[0]))) {
        return "horizontal_min";
      }
    }
    if (S::any(S::is_nan(S::load_f32(floats[0]))) != E::any(E::is_nan(E::load_f32(floats[0])))) {
      return "any";
    }
#undef KVANT_A
#undef KVANT_B
#undef KVANT_C
#undef KVANT_COMPARE
#undef KVANT_PAIR
#undef KVANT_QUAD
#undef KVANT_STORE
  }
  return nullptr;
}

}  // namespace
}  // namespace kvant
