#pragma once

// What the microkernel templates ask of a traits type S: one thin member per instruction. A new
// instruction set gives a type that satisfies Simd; tests/kernels/emulated_simd.hpp says with plain
// arrays what each member means, and tests/kernels/simd_members.hpp compares. (No <concepts>:
// nothing of the standard library is compiled with an instruction set's flags.)

#include <cstddef>
#include <cstdint>

namespace kvant {
namespace {

template <class A, class B>
inline constexpr bool kSame = false;
template <class A>
inline constexpr bool kSame<A, A> = true;
template <class A, class B>
concept Is = kSame<A, B>;

/// Vectors of kLanes floats (F) and 32-bit integers (I), and masks over them (M).
template <class S>
concept SimdVectors = requires(typename S::F f, typename S::I i, typename S::M m, float* floats,
                               std::int32_t* ints, std::uint16_t* halves, std::int8_t* bytes,
                               std::uint8_t* unsigned_bytes) {
  { S::kLanes + 0 } -> Is<int>;
  { S::set1(1.0f) } -> Is<typename S::F>;
  { S::set1_i(1) } -> Is<typename S::I>;
  { S::zero_i() } -> Is<typename S::I>;
  // Loads and stores: any address; halves are widened and narrowed (round to nearest even).
  { S::load_f32(floats) } -> Is<typename S::F>;
  { S::load_f16(halves) } -> Is<typename S::F>;
  { S::load_bf16(halves) } -> Is<typename S::F>;
  { S::load_i32(ints) } -> Is<typename S::I>;
  { S::load_i8(bytes) } -> Is<typename S::I>;
  { S::load_u8(unsigned_bytes) } -> Is<typename S::I>;
  { S::load_i16(static_cast<const std::int16_t*>(nullptr)) } -> Is<typename S::I>;
  S::store_f32(floats, f);
  S::store_f16(halves, f);
  S::store_bf16(halves, f);
  S::store_i32(ints, i);
  S::store_i8(bytes, i);
  S::store_i8_offset(unsigned_bytes, i);
  S::store_low_bytes(bytes, i);
  // Arithmetic: min and max give their second operand where either is NaN.
  { S::add(f, f) } -> Is<typename S::F>;
  { S::sub(f, f) } -> Is<typename S::F>;
  { S::mul(f, f) } -> Is<typename S::F>;
  { S::div(f, f) } -> Is<typename S::F>;
  { S::fma(f, f, f) } -> Is<typename S::F>;
  { S::min(f, f) } -> Is<typename S::F>;
  { S::max(f, f) } -> Is<typename S::F>;
  { S::abs(f) } -> Is<typename S::F>;
  { S::round(f) } -> Is<typename S::F>;
  { S::round_f16(f) } -> Is<typename S::F>;
  { S::round_bf16(f) } -> Is<typename S::F>;
  { S::to_i32(f) } -> Is<typename S::I>;  // rounded to nearest even; values that fit
  { S::to_f32(i) } -> Is<typename S::F>;
  { S::bit_and(f, i) } -> Is<typename S::F>;
  { S::and_i(i, i) } -> Is<typename S::I>;
  { S::xor_i(i, i) } -> Is<typename S::I>;
  { S::sub_i(i, i) } -> Is<typename S::I>;
  // Masks.
  { S::greater_equal(f, f) } -> Is<typename S::M>;
  { S::is_nan(f) } -> Is<typename S::M>;
  { S::mask_or(m, m) } -> Is<typename S::M>;
  { S::first_lanes(1) } -> Is<typename S::M>;
  { S::any(m) } -> Is<bool>;
  { S::bits(m) } -> Is<std::uint32_t>;
  { S::zero_where(m, f) } -> Is<typename S::F>;
  { S::select(m, f, f) } -> Is<typename S::F>;
  { S::horizontal_max(f) } -> Is<float>;
  { S::horizontal_min(f) } -> Is<float>;
};

/// The scan of activations: magnitudes compared as integers, 32 bits or two of 16 a lane.
template <class S>
concept SimdScan = requires(typename S::F f, typename S::I i, std::uint8_t* flags) {
  { S::abs_bits(f) } -> Is<typename S::I>;
  { S::max_u32(i, i) } -> Is<typename S::I>;
  { S::max_u16(i, i) } -> Is<typename S::I>;
  { S::any_at_least_u32(i, std::uint32_t{1}) } -> Is<bool>;
  { S::any_at_least_u16(i, std::uint16_t{1}) } -> Is<bool>;
  S::mark_at_least_u32(i, std::uint32_t{1}, flags);
  S::mark_at_least_u16(i, std::uint16_t{1}, flags);
  { S::keep_below_u32(i, std::uint32_t{1}) } -> Is<typename S::I>;
  { S::keep_below_u16(i, std::uint16_t{1}) } -> Is<typename S::I>;
  { S::low_bf16(i) } -> Is<typename S::F>;
  { S::high_bf16(i) } -> Is<typename S::F>;
  { S::join_words(i, i) } -> Is<typename S::I>;
  { S::narrow_words(i, i) } -> Is<typename S::I>;
  { S::narrow_lanes(i, i, i, i) } -> Is<typename S::I>;
};

/// The register tile and the integer dot product: kGroup bytes, unsigned or signed (kSignedCodes),
/// times as many signed ones in every lane. dot may saturate or wrap where two neighbouring signed
/// bytes of its second side pass kPairLimit together (0: never); dot_unlimited may not. Signed by
/// signed (split_pairs.hpp): dot_signed of any codes, dot_by_signs where the first are not -128,
/// dot(first_operand(b), a) with 128 times the sum of a too much where bytes are unsigned.
/// kStreamAhead: see fetch_streams().
template <class S>
concept SimdProduct = requires(typename S::I i, const unsigned char* a, const std::int8_t* b) {
  { S::kRows + S::kVectors + S::kGroup + S::kBytesB + S::kMaxAccumulators } -> Is<int>;
  { S::kPairLimit + 0 } -> Is<int>;
  { S::kSignedCodes } -> Is<const bool&>;
  { S::panels(1) } -> Is<int>;
  { S::kStreamAhead } -> Is<const std::ptrdiff_t&>;
  { S::broadcast_a(a) } -> Is<typename S::I>;
  { S::load_b(b) } -> Is<typename S::I>;
  { S::dot(i, i, i) } -> Is<typename S::I>;
  { S::dot_unlimited(i, i, i) } -> Is<typename S::I>;
  { S::dot_signed(i, i, i) } -> Is<typename S::I>;
  { S::dot_by_signs(i, i, i) } -> Is<typename S::I>;
  { S::first_operand(i) } -> Is<typename S::I>;
  { S::pair_sums(i) } -> Is<typename S::I>;
  { S::within_limit(i) } -> Is<typename S::I>;
  { S::sub16(i, i) } -> Is<typename S::I>;
  { S::nonzero_lanes(i) } -> Is<std::uint32_t>;
  { S::dot_even(i, i, i) } -> Is<typename S::I>;
  { S::signed_byte(i, 1) } -> Is<typename S::I>;
  { S::Narrow::kLanes + 0 } -> Is<int>;
};

/// Products with codes of 4 bits: bytes taken apart, tables of 16, sums in 16-bit lanes.
template <class S>
concept SimdNibbles = requires(typename S::I i, const std::uint8_t* table, const float* floats) {
  { S::low_nibbles(i) } -> Is<typename S::I>;
  { S::high_nibbles(i) } -> Is<typename S::I>;
  { S::load_table(table) } -> Is<typename S::I>;
  { S::lookup(i, i) } -> Is<typename S::I>;
  { S::lookup_f32(floats, i) } -> Is<typename S::F>;
  { S::dot16(i, i, i) } -> Is<typename S::I>;
  { S::keep(i) } -> Is<typename S::I>;
  { S::sum_pairs16(i) } -> Is<typename S::I>;
  { S::add16(i, i) } -> Is<typename S::I>;
  { S::mul16(i, i) } -> Is<typename S::I>;
  { S::twice16(i) } -> Is<typename S::I>;
  { S::add_i(i, i) } -> Is<typename S::I>;
  { S::mul_i(i, i) } -> Is<typename S::I>;
  { S::shift_right(i, 4) } -> Is<typename S::I>;
  { S::shift_left(i, 4) } -> Is<typename S::I>;
};

/// Products of two rows by two columns, 8 signed codes each, and their four sums put in order.
template <class S>
concept SimdPairs = requires(typename S::I i) {
  { S::dot_pairs(i, i, i) } -> Is<typename S::I>;
  { S::first_row(i, i) } -> Is<typename S::I>;
  { S::second_row(i, i) } -> Is<typename S::I>;
};

/// Registers of 16 rows of 64 bytes, and sums of products of two of them (gemm_squares.hpp).
template <class S>
concept SimdSquares = requires(const unsigned char* from, std::int32_t* to) {
  S::shape_squares(17, 64);
  S::template zero_square<0>();
  S::template load_square<4>(from, std::ptrdiff_t{64});
  S::template dot_squares<0, 4, 6>();
  S::template store_square<0>(to, std::ptrdiff_t{16});
  S::release_squares();
};

template <class S>
concept Simd = SimdVectors<S> && SimdScan<S> && SimdProduct<S> && SimdNibbles<S>;

}  // namespace
}  // namespace kvant
