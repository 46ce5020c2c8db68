#pragma once

/// @file
/// HistogramObserver: torch's, which searches the range with the least expected squared error by
/// moving its two ends inwards.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvant/block_range.hpp"
#include "kvant/core/distribution_observer.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::core {

/// 2048 equal bins from the smallest to the largest value, as torch.ao's HistogramObserver keeps
/// them (2.13): where a batch widens the range, the old bins are cut into 16 and each part goes to
/// the bin that its middle lies in.
class EqualBins {
 public:
  static constexpr int kBins = 2048;

  void add(const std::vector<float>& values) {
    if (values.empty()) return;
    const auto [least, largest] = std::minmax_element(values.begin(), values.end());
    if (bins_.empty()) {
      min_ = *least;
      max_ = *largest;
      bins_ = count(values, min_, max_);
      return;
    }
    const float new_min = std::min(min_, *least);
    const float new_max = std::max(max_, *largest);
    std::vector<double> batch = count(values, new_min, new_max);
    widen(new_min, new_max);
    for (std::size_t i = 0; i < bins_.size(); ++i) bins_[i] += batch[i];
  }
  /// The other's bins, each as a value in its middle.
  void merge(EqualBins other) {
    if (other.bins_.empty()) return;
    if (bins_.empty()) {
      *this = std::move(other);
      return;
    }
    const float new_min = std::min(min_, other.min_);
    const float new_max = std::max(max_, other.max_);
    widen(new_min, new_max);
    other.widen(new_min, new_max);
    for (std::size_t i = 0; i < bins_.size(); ++i) bins_[i] += other.bins_[i];
  }

  /// [kBins]; empty before the first value.
  [[nodiscard]] const std::vector<double>& bins() const noexcept { return bins_; }
  [[nodiscard]] float min() const noexcept { return min_; }
  [[nodiscard]] float max() const noexcept { return max_; }

  /// torch's search: each step leaves out a hundred-thousandth of the values on the side where that
  /// moves the end by more bins, until the expected error grows.
  /// @param levels  2^bits
  [[nodiscard]] std::array<float, 2> search(int levels) const {
    if (bins_.empty() || !(max_ > min_)) return {min_, max_};
    constexpr double kStep = 1e-5;
    const double width = bin_width();
    std::vector<double> sums(bins_);
    for (std::size_t i = 1; i < sums.size(); ++i) sums[i] += sums[i - 1];
    const double total = sums.back();
    double alpha = 0.0;
    double beta = 1.0;
    int begin = 0;
    int end = kBins - 1;
    double least = std::numeric_limits<double>::infinity();
    while (alpha < beta) {
      const double next_alpha = alpha + kStep;
      const double next_beta = beta - kStep;
      int left = begin;
      int right = end;
      while (left < end && sums[static_cast<std::size_t>(left)] < next_alpha * total) ++left;
      while (right > begin && sums[static_cast<std::size_t>(right)] > next_beta * total) --right;
      int next_begin = begin;
      int next_end = end;
      if (left - begin > end - right) {
        next_begin = left;
        alpha = next_alpha;
      } else {
        next_end = right;
        beta = next_beta;
      }
      if (next_begin == begin && next_end == end) continue;
      const double error = expected_error(next_begin, next_end, levels);
      if (error > least) break;
      least = error;
      begin = next_begin;
      end = next_end;
    }
    return {static_cast<float>(static_cast<double>(min_) + width * begin),
            static_cast<float>(static_cast<double>(min_) + width * (end + 1))};
  }

 private:
  static constexpr int kParts = 16;

  [[nodiscard]] double bin_width() const {
    return (static_cast<double>(max_) - static_cast<double>(min_)) / kBins;
  }

  static std::vector<double> count(const std::vector<float>& values, float min, float max) {
    std::vector<double> bins(kBins);
    const float width = max - min;
    for (const float value : values) {
      const float place = width > 0 ? (value - min) * static_cast<float>(kBins) / width : 0.0f;
      bins[static_cast<std::size_t>(std::clamp(static_cast<int>(place), 0, kBins - 1))] += 1.0;
    }
    return bins;
  }

  void widen(float new_min, float new_max) {
    if (new_min == min_ && new_max == max_) return;
    std::vector<double> wide(kBins);
    const double step = (static_cast<double>(max_) - static_cast<double>(min_)) / kBins / kParts;
    const double new_width = (static_cast<double>(new_max) - static_cast<double>(new_min)) / kBins;
    for (int i = 0; i < kBins * kParts; ++i) {
      const double middle = static_cast<double>(min_) + step * (i + 0.5);
      const double place = (middle - static_cast<double>(new_min)) / new_width;
      wide[static_cast<std::size_t>(std::clamp(static_cast<int>(place), 0, kBins - 1))] +=
          bins_[static_cast<std::size_t>(i / kParts)] / kParts;
    }
    bins_ = std::move(wide);
    min_ = new_min;
    max_ = new_max;
  }

  /// Values spread evenly over their bins, codes over the bins [begin, end].
  [[nodiscard]] double expected_error(int begin, int end, int levels) const {
    const double width = bin_width();
    const double step = width * (end - begin + 1) / levels;
    if (step == 0) return 0;
    const auto cubes = [](double from, double to) {
      return (to * to * to - from * from * from) / 3.0;
    };
    double error = 0;
    for (int i = 0; i < kBins; ++i) {
      const double density = bins_[static_cast<std::size_t>(i)] / width;
      if (density == 0) continue;
      const double from = (i - begin) * width;
      const double to = from + width;
      const double highest = levels - 1;
      const double first = std::clamp(std::floor(from / step), 0.0, highest);
      const double last = std::clamp(std::floor(to / step), 0.0, highest);
      double sum = cubes(from - (first + 0.5) * step, step / 2.0);
      sum += (last - first - 1.0) * cubes(-step / 2.0, step / 2.0);
      sum += cubes(-step / 2.0, to - (last + 0.5) * step);
      error += density * sum;
    }
    return error;
  }

  std::vector<double> bins_;
  float min_ = 0;
  float max_ = 0;
};

/// torch's HistogramObserver for any granularity. Merging and later batches move counts between
/// bins, so that the order of batches shows in the last digits.
class HistogramObserver : public DistributionObserver<EqualBins> {
 public:
  explicit HistogramObserver(BlockShape block = per_tensor, NonFinite non_finite = NonFinite::error)
      : DistributionObserver(block, non_finite) {}

  /// The range that the search finds for codes of a scheme.
  [[nodiscard]] BlockRange chosen_range(const QuantScheme& scheme) const {
    // torch counts the levels of the type, whatever the scheme uses of them.
    const int levels = 1 << std::min(describe(scheme.dtype).bits, 16);
    return chosen([&](const EqualBins& bins, float, float) { return bins.search(levels); });
  }
  /// @throws Error invalid_argument where nothing was observed and there is more than one block
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    return params_of(chosen_range(scheme), scheme);
  }
};

}  // namespace kvant::core

namespace kvant {
using core::EqualBins;
using core::HistogramObserver;
}  // namespace kvant
