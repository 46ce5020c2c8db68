#pragma once

// What ResidualLists say, added to a tile's sums: for every entry (k, output, excess) of a panel,
// sum[row][output] += excess * a[row][k] for all rows of the block at once, one row per lane.
// Cost: about 10 instructions per entry and block; trained weights have entries for 0.1 to 2 % of
// their pairs.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// Sums of offset codes may pass 2^31 on their way; what the epilogue subtracts brings them back.
inline void add_wrapping(std::int32_t& sum, std::int32_t value) noexcept {
  sum = static_cast<std::int32_t>(static_cast<std::uint32_t>(sum) +
                                  static_cast<std::uint32_t>(value));
}

/// Calls add(entry) for all, and asks for a line of what comes next now and then: the weights of
/// few rows come from memory, which would be idle meanwhile.
template <class Add>
inline void for_each_residual(const Residual* entry, const Residual* end, const unsigned char* next,
                              Add&& add) noexcept {
  for (; end - entry >= 8; entry += 8, next += 64) {
    __builtin_prefetch(next);
    for (int i = 0; i < 8; ++i) add(entry[i]);
  }
  for (; entry != end; ++entry) add(*entry);
}

template <class S, int kRows>
[[gnu::noinline]] void add_panel_residuals(const Residual* entry, const Residual* end,
                                           const unsigned char* a, std::int32_t* acc,
                                           std::ptrdiff_t acc_stride,
                                           const unsigned char* next) noexcept {
  using R = typename S::Narrow;  // wider vectors would cost more and hold nothing
  constexpr int kColumns = S::kVectors * S::kLanes;
  static_assert(kRows <= R::kLanes && R::kLanes * 4 <= kActivationSlack);
  static_assert(S::kGroup == 4 && kColumns <= 128);
  if constexpr (kRows == 1) {
    for_each_residual(entry, end, next,
                      [&](Residual e) { add_wrapping(acc[e.output()], e.excess() * a[e.k()]); });
  } else {
    // Sums of one output in one vector, a row to each lane; turned round at the end.
    alignas(64) std::int32_t sums[kColumns][R::kLanes];
    KVANT_UNROLL
    for (int n = 0; n < kColumns; ++n) R::store_i32(sums[n], R::zero_i());
    const typename R::I low_byte = R::set1_i(255);
    for_each_residual(entry, end, next, [&](Residual e) {
      // Row r's code of k is the low byte of lane r.
      const auto* at = a + (e.k() & ~3) * kRows + (e.k() & 3);
      const typename R::I codes =
          R::and_i(R::load_i32(reinterpret_cast<const std::int32_t*>(at)), low_byte);
      const typename R::I excess = R::set1_i(static_cast<std::int32_t>(e.bits));
      std::int32_t* sum = sums[e.output()];
      R::store_i32(sum, R::dot(R::load_i32(sum), codes, excess));  // three products are with zero
    });
    for (int r = 0; r < kRows; ++r) {
      for (int n = 0; n < kColumns; ++n) add_wrapping(acc[r * acc_stride + n], sums[n][r]);
    }
  }
}

/// Asks for the entries of a panel, to be called before its tile is multiplied: in decode they come
/// from memory, in pieces too short for the processor to foresee.
inline void fetch_residuals(const ResidualLists& lists, std::int64_t panel) noexcept {
  const Residual* end = lists.entries + lists.panel_begin[panel + 1];
  for (const Residual* at = lists.entries + lists.panel_begin[panel]; at < end; at += 16) {
    __builtin_prefetch(at);
  }
}

/// @param next  where the panel's stream of weights goes on
template <class S, int kRows = S::kRows>
inline void add_residuals(const ResidualLists& lists, std::int64_t panel, const unsigned char* a,
                          std::int32_t* acc, std::ptrdiff_t acc_stride, int rows,
                          const unsigned char* next) noexcept {
  if constexpr (kRows > 0) {
    if (rows != kRows) {
      add_residuals<S, kRows - 1>(lists, panel, a, acc, acc_stride, rows, next);
      return;
    }
    const Residual* begin = lists.entries + lists.panel_begin[panel];
    const Residual* end = lists.entries + lists.panel_begin[panel + 1];
    if (begin != end) add_panel_residuals<S, kRows>(begin, end, a, acc, acc_stride, next);
  }
}

}  // namespace
}  // namespace kvant
