#pragma once

/// @file
/// FloatHistogram: counts of floats by sign, exponent and seven bits of mantissa (their bfloat16,
/// cut off): any range, bins at most 0.8 % wide, and sums that do not depend on the order in which
/// values, batches or histograms come.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "kvant/config.hpp"

namespace kvant {

/// Memory: 1 KiB for each sign and exponent that occurs.
class FloatHistogram {
 public:
  FloatHistogram() : rows_(kRows) {}

  /// @param value finite
  void add(float value) {
    const std::uint32_t bin = std::bit_cast<std::uint32_t>(value) >> 16;
    std::vector<std::int64_t>& row = rows_[bin / kBins];
    if (row.empty()) row.resize(kBins);
    ++row[bin % kBins];
    ++total_;
  }
  void add(const std::vector<float>& values) {
    for (const float value : values) add(value);
  }
  void merge(const FloatHistogram& other) {
    for (std::size_t r = 0; r < kRows; ++r) {
      if (other.rows_[r].empty()) continue;
      if (rows_[r].empty()) rows_[r].resize(kBins);
      for (std::size_t i = 0; i < kBins; ++i) rows_[r][i] += other.rows_[r][i];
    }
    total_ += other.total_;
  }

  [[nodiscard]] std::int64_t total() const noexcept { return total_; }

  /// Calls each(least, largest, count) for the bins that hold something, ascending; the edges are
  /// floats, and values lie in [least, largest].
  template <class Each>
  void for_bins(Each&& each) const {
    for (std::uint32_t i = kRows * kBins; i-- > kRows * kBins / 2;) {  // negative, largest first
      const std::uint32_t bits = i << 16;
      call(each, i, std::bit_cast<float>(bits | 0xFFFFu), std::bit_cast<float>(bits));
    }
    for (std::uint32_t i = 0; i < kRows * kBins / 2; ++i) {
      const std::uint32_t bits = i << 16;
      call(each, i, std::bit_cast<float>(bits), std::bit_cast<float>(bits | 0xFFFFu));
    }
  }

 private:
  static constexpr std::uint32_t kRows = 512;  ///< sign and exponent
  static constexpr std::uint32_t kBins = 128;  ///< mantissa

  template <class Each>
  void call(Each& each, std::uint32_t bin, float least, float largest) const {
    const std::vector<std::int64_t>& row = rows_[bin / kBins];
    if (!row.empty() && row[bin % kBins] > 0) each(least, largest, row[bin % kBins]);
  }

  std::vector<std::vector<std::int64_t>> rows_;
  std::int64_t total_ = 0;
};

}  // namespace kvant
