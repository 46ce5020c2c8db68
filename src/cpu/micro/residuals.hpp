#pragma once

// What ResidualLists say, added to a tile's sums: for every entry (k, output, excess) of a panel,
// sum[row][output] += excess * a[row][k] for all rows of the block at once, one row per lane.
// Cost: about 8 instructions per entry and block; trained weights have entries for 0.1 to 2 % of
// their pairs.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

template <class S, int kRows>
[[gnu::noinline]] void add_panel_residuals(const std::uint32_t* entries, const std::int32_t* counts,
                                           const unsigned char* a, std::int32_t* acc,
                                           std::ptrdiff_t acc_stride) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  static_assert(kRows <= S::kLanes && S::kLanes * 4 <= kActivationSlack);
  const typename S::I low_byte = S::set1_i(255);
  for (int n = 0; n < kColumns; ++n) {
    if constexpr (kRows == 1) {
      std::int32_t sum = 0;
      for (std::int32_t i = 0; i < counts[n]; ++i, ++entries) {
        sum += static_cast<std::int8_t>(*entries & 255u) * std::int32_t{a[*entries >> 8]};
      }
      acc[n] += sum;
    } else {
      if (counts[n] == 0) continue;
      typename S::I sum = S::zero_i();
      for (std::int32_t i = 0; i < counts[n]; ++i, ++entries) {
        const std::uint32_t k = *entries >> 8;
        // Row r's code of k is the low byte of lane r.
        const auto* at = a + static_cast<std::size_t>(k & ~3u) * kRows + (k & 3u);
        const typename S::I codes =
            S::and_i(S::load_i32(reinterpret_cast<const std::int32_t*>(at)), low_byte);
        sum = S::add_i(sum, S::multiply_low_byte(codes, S::set1_i(static_cast<std::int32_t>(*entries))));
      }
      alignas(64) std::int32_t rows[S::kLanes];
      S::store_i32(rows, sum);
      for (int r = 0; r < kRows; ++r) acc[r * acc_stride + n] += rows[r];
    }
  }
}

template <class S, int kRows = S::kRows>
inline void add_residuals(const ResidualLists& lists, const unsigned char* a, std::int32_t* acc,
                          int rows, std::int64_t panel, int panels) noexcept {
  if constexpr (kRows > 0) {
    if (rows != kRows) {
      add_residuals<S, kRows - 1>(lists, a, acc, rows, panel, panels);
      return;
    }
    constexpr int kColumns = S::kVectors * S::kLanes;
    for (int p = 0; p < panels; ++p) {
      const std::int64_t begin = lists.panel_begin[panel + p];
      if (begin == lists.panel_begin[panel + p + 1]) continue;
      add_panel_residuals<S, kRows>(lists.entries + begin, lists.counts + (panel + p) * kColumns, a,
                                    acc + p * kColumns, std::ptrdiff_t{panels} * kColumns);
    }
  }
}

}  // namespace
}  // namespace kvant
