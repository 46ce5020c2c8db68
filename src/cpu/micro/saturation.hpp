#pragma once

// Instructions that sum pairs of products in 16 bits saturate (or wrap) where two weights of equal
// sign and both their activations are large. Where they might is a property of the weights:
// list_saturating finds these words of a packed panel (SaturatingWords), 1 to 2 % of trained
// weights (of AVX2; of NEON, which multiplies signed codes, only pairs of -128), and add_lost adds
// to a tile's sums what was lost.
//
// Cost: 16 instructions for a word and block of rows, a tenth of a tile's time. Words of which no
// activation of the block can saturate might be passed over (they are nine of ten); branches that
// find them cost as much as they save, and so did comparing limits and activations for 32 pairs at
// a time: of what is left, each waits for the second-level cache.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// So few rows wait for memory: they are multiplied by steps that never saturate, codes are taken
/// apart in registers (decode_groups.hpp, gemm_fp8.hpp), and weights asked for ahead.
inline constexpr int kFewRows = 4;

/// Sums of offset codes may pass 2^31 on their way; what the epilogue subtracts brings them back.
inline void add_wrapping(std::int32_t& sum, std::int32_t value) noexcept {
  sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) +
                                  static_cast<std::uint32_t>(value));
}

/// GemmKernels::list_saturating. Most groups have no such word, a fifth has one, hardly any more:
/// the first is written in any case, since a branch would be guessed wrong every fifth time.
template <class S>
std::int64_t list_saturating(const std::int8_t* panel, std::int64_t k_padded, std::int32_t* sums,
                             SaturatingWord* to, std::int64_t room) noexcept {
  static_assert(S::kGroup == 4 && S::kBytesB == 4 * S::kLanes);
  constexpr int kColumns = S::kVectors * S::kLanes;
  static_assert(kColumns < 64);
  typename S::I totals[S::kVectors];
  KVANT_UNROLL
  for (int v = 0; v < S::kVectors; ++v) totals[v] = S::zero_i();
  bool too_many = false;
  std::int64_t count = 0;
  for (std::int64_t k = 0; k < k_padded; k += 4, panel += 4 * kColumns) {
    std::uint64_t found = 0;
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) {
      const typename S::I pairs = S::pair_sums(S::load_b(panel + v * S::kBytesB));
      totals[v] = S::add_i(totals[v], S::sum_pairs16(pairs));
      found |= std::uint64_t{S::large_pairs(pairs)} << (v * S::kLanes);
    }
    to[count] = SaturatingWord::of(k / 4, __builtin_ctzll(found | std::uint64_t{1} << 63));
    count += found != 0;
    for (found &= found - 1; found != 0; found &= found - 1) {
      to[count++] = SaturatingWord::of(k / 4, __builtin_ctzll(found));
    }
    if (count > room) {
      too_many = true;
      count = 0;
    }
  }
  if (sums != nullptr) {
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) S::store_i32(sums + v * S::kLanes, totals[v]);
  }
  return too_many ? -1 : count;
}

template <class S, int kRows>
[[gnu::noinline]] void add_lost_to_rows(const SaturatingWord* word, const SaturatingWord* end,
                                        const unsigned char* a, const unsigned char* b,
                                        std::int32_t* acc, std::ptrdiff_t acc_stride) noexcept {
  using R = typename S::Narrow;  // a row to each lane: wider vectors would cost more
  constexpr int kColumns = S::kVectors * S::kLanes;
  constexpr int kLanesOfRows = (kRows + R::kLanes - 1) / R::kLanes * R::kLanes;
  static_assert(kLanesOfRows * 4 <= kActivationSlack && S::kGroup == 4);
  // Sums of one output in one vector (or in few), turned round at the end.
  alignas(64) std::int32_t sums[kColumns][kLanesOfRows];
  for (auto& output : sums) {
    for (int r = 0; r < kLanesOfRows; r += R::kLanes) R::store_i32(output + r, R::zero_i());
  }
  for (; word != end; ++word) {
    const std::int64_t group = word->group();
    const std::int64_t output = word->output();
    const auto* codes = reinterpret_cast<const std::int32_t*>(a + group * (4 * kRows));
    const typename R::I weights = R::broadcast_a(b + (group * kColumns + output) * 4);
    KVANT_UNROLL
    for (int r = 0; r < kLanesOfRows; r += R::kLanes) {
      std::int32_t* const to = sums[output] + r;
      R::store_i32(to, R::add_i(R::load_i32(to), R::lost(R::load_i32(codes + r), weights)));
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int n = 0; n < kColumns; ++n) add_wrapping(acc[r * acc_stride + n], sums[n][r]);
  }
}

/// Adds to the sums of one panel what S::dot lost; for more than kFewRows rows.
template <class S, int kRows = S::kRows>
inline void add_lost(const SaturatingWords& lists, std::int64_t panel, const unsigned char* a,
                     const unsigned char* b, std::int32_t* acc, std::ptrdiff_t acc_stride,
                     int rows) noexcept {
  if constexpr (kRows > kFewRows) {
    if (rows != kRows) {
      add_lost<S, kRows - 1>(lists, panel, a, b, acc, acc_stride, rows);
      return;
    }
    const SaturatingWord* begin = lists.words + lists.panel_begin[panel];
    const SaturatingWord* end = lists.words + lists.panel_begin[panel + 1];
    if (begin != end) add_lost_to_rows<S, kRows>(begin, end, a, b, acc, acc_stride);
  }
}

}  // namespace
}  // namespace kvant
