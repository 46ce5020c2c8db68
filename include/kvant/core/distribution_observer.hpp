#pragma once

/// @file
/// Observers that look at how values are distributed, not only at the largest: percentiles, the
/// least squared error, the least loss of information. Each keeps a FloatHistogram a block, so that
/// batches may come in any order, and observers on several threads or machines can be merged: the
/// result has the same bits.
///
///     kvant::PercentileObserver observer(0.9999, kvant::per_tensor);
///     for (const auto& x : batches) observer.observe(x);
///     const auto params = observer.params(kvant::int8_symmetric);

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvant/block_range.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/core/observer.hpp"
#include "kvant/core/visit_float.hpp"
#include "kvant/float_histogram.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::core {

/// What the observers of distributions share: how the values of each block are distributed, and
/// their exact range.
/// @tparam Distribution  add(values), merge(other)
template <class Distribution>
class DistributionObserver {
 public:
  /// A batch: a matrix of floats. @throws Error not_finite, unsupported (dtype), shape_mismatch (a
  /// batch with another number of blocks), invalid_argument
  template <FloatMatrix X>
  void observe(const X& x) {
    const kvant::detail::ScopedFloatEnvironment environment;
    const auto view = detail::view_of(x);
    const ConstAnyMatrix any(view);
    kvant::detail::check_float("observe", "x", any);
    kvant::detail::check_block("observe", block_);
    if (any.rows == 0 || any.cols == 0) return;
    detail::visit_float(view, [&](const auto& typed) { scan(typed); });
  }

  /// What another one of the same kind has seen.
  /// @throws Error shape_mismatch
  void merge(const DistributionObserver& other) {
    if (other.blocks_.empty()) return;
    require_blocks(other.blocks_.size());
    for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i].merge(other.blocks_[i]);
    kvant::detail::take_extremes(range_, other.range_);
  }

  /// Smallest and largest of everything seen.
  [[nodiscard]] const BlockRange& range() const noexcept { return range_; }
  /// Row-major over the blocks; empty before the first batch.
  [[nodiscard]] const std::vector<Distribution>& blocks() const noexcept { return blocks_; }

 protected:
  DistributionObserver(BlockShape block, NonFinite non_finite)
      : block_(block), non_finite_(non_finite) {}

  /// @param choose  (distribution, least, largest) -> {least, largest}
  template <class Choose>
  [[nodiscard]] BlockRange chosen(Choose&& choose) const {
    const kvant::detail::ScopedFloatEnvironment environment;
    BlockRange result = range_;
    for (std::size_t i = 0; i < blocks_.size(); ++i) {
      if (!std::isfinite(range_.min[i])) continue;  // nothing but ignored values
      const auto [least, largest] = choose(blocks_[i], range_.min[i], range_.max[i]);
      result.min[i] = least;
      result.max[i] = largest;
    }
    return result;
  }
  [[nodiscard]] QuantParams params_of(const BlockRange& range, const QuantScheme& scheme) const {
    return kvant::detail::observed_params(range, scheme, block_);
  }

 private:
  void require_blocks(std::size_t count) {
    if (blocks_.empty()) {
      blocks_.resize(count);
    } else if (blocks_.size() != count) {
      kvant::detail::fail(ErrorCode::shape_mismatch,
                          "the observer has seen " + std::to_string(blocks_.size()) +
                              " blocks, this batch has " + std::to_string(count));
    }
  }

  template <class T>
  void scan(const MatrixView<T>& x) {
    const std::int64_t block_rows = block_.rows == 0 ? x.rows() : block_.rows;
    const std::int64_t block_cols = block_.cols == 0 ? x.cols() : block_.cols;
    const std::int64_t grid_cols = block_.count_cols(x.cols());
    BlockRange batch;
    detail::scan_range(x, block_, non_finite_, batch);  // which finds what must not be there
    require_blocks(batch.min.size());
    std::vector<std::vector<float>> values(blocks_.size());
    for (std::int64_t r = 0; r < x.rows(); ++r) {
      for (std::int64_t c = 0; c < x.cols(); ++c) {
        const auto value = static_cast<float>(x(r, c));
        if (!std::isfinite(value)) continue;
        values[static_cast<std::size_t>(r / block_rows * grid_cols + c / block_cols)].push_back(
            value);
      }
    }
    for (std::size_t i = 0; i < blocks_.size(); ++i) blocks_[i].add(values[i]);
    kvant::detail::take_extremes(range_, batch);
  }

  BlockShape block_;
  NonFinite non_finite_;
  std::vector<Distribution> blocks_;
  BlockRange range_;
};

/// The range that holds a share of the values: as many are left out at each end, (1 - share) / 2.
/// Robust against single outliers; costs a histogram a block.
class PercentileObserver : public DistributionObserver<FloatHistogram> {
 public:
  /// @throws Error invalid_argument: a share outside (0, 1]
  explicit PercentileObserver(double share = 0.9999, BlockShape block = per_tensor,
                              NonFinite non_finite = NonFinite::error)
      : DistributionObserver(block, non_finite), share_(share) {
    if (share > 0 && share <= 1) return;
    kvant::detail::fail(ErrorCode::invalid_argument, "PercentileObserver: the share is " +
                                                         std::to_string(share) +
                                                         ", it must be above 0 and at most 1");
  }
  /// To the outer edge of the bin, and never beyond what was seen.
  [[nodiscard]] BlockRange chosen_range() const {
    return chosen([&](const FloatHistogram& histogram, float min, float max) {
      const double outside = (1.0 - share_) / 2.0 * static_cast<double>(histogram.total());
      double seen = 0;
      float least = max;
      float largest = min;
      bool found = false;
      const double upper = static_cast<double>(histogram.total()) - outside;
      histogram.for_bins([&](float bin_least, float bin_largest, std::int64_t count) {
        if (!found && seen + static_cast<double>(count) > outside) {
          least = bin_least;
          found = true;
        }
        if (seen < upper) largest = bin_largest;
        seen += static_cast<double>(count);
      });
      return std::array{std::max(least, min), std::min(largest, max)};
    });
  }
  /// @throws Error invalid_argument where nothing was observed and there is more than one block
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    return params_of(chosen_range(), scheme);
  }

 private:
  double share_;
};

/// The range, shrunk in a hundred steps, whose codes have the least mean squared error, taking a
/// bin's values as its middle: what is rounded and what is cut off weighed against each other.
class MseObserver : public DistributionObserver<FloatHistogram> {
 public:
  explicit MseObserver(BlockShape block = per_tensor, NonFinite non_finite = NonFinite::error)
      : DistributionObserver(block, non_finite) {}
  [[nodiscard]] BlockRange chosen_range(const QuantScheme& scheme) const {
    return chosen([&](const FloatHistogram& histogram, float min, float max) {
      std::array<float, 2> best{min, max};
      double least_error = std::numeric_limits<double>::infinity();
      for (int step = 0; step < kSteps; ++step) {
        const float share = 1.0f - static_cast<float>(step) / kSteps;
        const std::array<float, 2> range{min * share, max * share};
        const double error = error_of(histogram, range, scheme);
        if (error < least_error) {
          least_error = error;
          best = range;
        }
      }
      return best;
    });
  }
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    return params_of(chosen_range(scheme), scheme);
  }

 private:
  static constexpr int kSteps = 100;

  static double error_of(const FloatHistogram& histogram, const std::array<float, 2>& range,
                         const QuantScheme& scheme) {
    const QuantParams params = params_from_range({range[0]}, {range[1]}, scheme, per_tensor);
    double error = 0;
    histogram.for_bins([&](float least, float largest, std::int64_t count) {
      const double value = (static_cast<double>(least) + static_cast<double>(largest)) / 2.0;
      const double scale = params.scale[0];
      const double zero = params.zero_point.empty() ? 0.0 : params.zero_point[0];
      const double code =
          std::clamp(std::nearbyint(value / scale) + zero, static_cast<double>(scheme.lowest),
                     static_cast<double>(scheme.highest));
      const double difference = value - (code - zero) * scale;
      error += difference * difference * static_cast<double>(count);
    });
    return error;
  }
};

/// The magnitude to cut off at where the codes tell most of what the values told: the least
/// Kullback-Leibler divergence between 2048 bins of |x| and the same in half of the codes' levels
/// (TensorRT's "entropy" calibration). For symmetric schemes and many values.
class EntropyObserver : public DistributionObserver<FloatHistogram> {
 public:
  explicit EntropyObserver(BlockShape block = per_tensor, NonFinite non_finite = NonFinite::error)
      : DistributionObserver(block, non_finite) {}
  /// @param levels of the positive half: 128 for int8
  [[nodiscard]] BlockRange chosen_range(int levels = 128) const {
    return chosen([&](const FloatHistogram& histogram, float min, float max) {
      const float absmax = std::max(std::fabs(min), std::fabs(max));
      if (absmax == 0.0f) return std::array{min, max};
      const float limit = static_cast<float>(cut_off(histogram, absmax, levels));
      return std::array{std::max(min, -limit), std::min(max, limit)};
    });
  }
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    return params_of(chosen_range(std::max(2, (scheme.highest - scheme.lowest + 2) / 2)), scheme);
  }

 private:
  static constexpr int kBins = 2048;

  static double cut_off(const FloatHistogram& histogram, float absmax, int levels) {
    std::vector<double> bins(kBins);
    const double width = static_cast<double>(absmax) / kBins;
    histogram.for_bins([&](float least, float largest, std::int64_t count) {
      // Spread over the bins that it covers.
      const double low = std::min(std::fabs(least), std::fabs(largest)) / width;
      const double high = std::max(std::fabs(least), std::fabs(largest)) / width;
      const int first = std::min(kBins - 1, static_cast<int>(low));
      const int last = std::min(kBins - 1, static_cast<int>(high));
      const double part = static_cast<double>(count) / (last - first + 1);
      for (int i = first; i <= last; ++i) bins[static_cast<std::size_t>(i)] += part;
    });
    double best = static_cast<double>(absmax);
    double least = std::numeric_limits<double>::infinity();
    for (int count = levels; count <= kBins; ++count) {
      const double divergence = divergence_of(bins, count, levels);
      if (divergence < least) {
        least = divergence;
        best = width * (count + 0.5);
      }
    }
    return std::min(best, static_cast<double>(absmax));
  }

  /// Of the first `count` bins, the rest added to the last, from the same in `levels` levels.
  static double divergence_of(const std::vector<double>& bins, int count, int levels) {
    double total = 0;
    double outside = 0;
    for (int i = 0; i < kBins; ++i) {
      total += bins[static_cast<std::size_t>(i)];
      if (i >= count) outside += bins[static_cast<std::size_t>(i)];
    }
    const double inside = total - outside;
    if (inside <= 0) return std::numeric_limits<double>::infinity();
    double divergence = 0;
    for (int level = 0; level < levels; ++level) {
      const int begin = static_cast<int>(static_cast<std::int64_t>(level) * count / levels);
      const int end = static_cast<int>(static_cast<std::int64_t>(level + 1) * count / levels);
      double sum = 0;
      int filled = 0;
      for (int i = begin; i < end; ++i) {
        sum += bins[static_cast<std::size_t>(i)];
        filled += bins[static_cast<std::size_t>(i)] > 0;
      }
      if (filled == 0) continue;
      const double q = sum / filled / inside;
      for (int i = begin; i < end; ++i) {
        double p = bins[static_cast<std::size_t>(i)];
        if (p <= 0) continue;
        if (i == count - 1) p += outside;
        p /= total;
        divergence += p * std::log(p / q);
      }
    }
    // What is cut off from a last bin that is empty is lost.
    if (outside > 0 && bins[static_cast<std::size_t>(count - 1)] <= 0) {
      return std::numeric_limits<double>::infinity();
    }
    return divergence;
  }
};

/// quanto's calibration: absmax of each batch, the first as it is, then m * old + (1 - m) * new, in
/// fp32. (quanto takes a scale of exactly 1 for one that was never set; here that is remembered.)
class AbsmaxMomentumObserver {
 public:
  /// @throws Error invalid_argument: momentum outside [0, 1)
  explicit AbsmaxMomentumObserver(float momentum = 0.9f, BlockShape block = per_tensor,
                                  NonFinite non_finite = NonFinite::error)
      : momentum_(momentum), block_(block), non_finite_(non_finite) {
    if (momentum >= 0 && momentum < 1) return;
    kvant::detail::fail(ErrorCode::invalid_argument, "AbsmaxMomentumObserver: the momentum is " +
                                                         kvant::detail::number_text(momentum) +
                                                         ", it must be from 0 to below 1");
  }
  /// @param qmax the scale is absmax / qmax, and is what is averaged
  template <FloatMatrix X>
  void observe(const X& x, float qmax = 127.0f) {
    const kvant::detail::ScopedFloatEnvironment environment;
    const BlockRange batch = core::block_range(x, block_, non_finite_);
    if (batch.min.empty()) return;
    if (scales_.empty()) scales_.assign(batch.min.size(), std::numeric_limits<float>::quiet_NaN());
    if (scales_.size() != batch.min.size()) {
      kvant::detail::fail(ErrorCode::shape_mismatch,
                          "the observer has seen " + std::to_string(scales_.size()) +
                              " blocks, this batch has " + std::to_string(batch.min.size()));
    }
    for (std::size_t i = 0; i < scales_.size(); ++i) {
      if (!std::isfinite(batch.min[i])) continue;
      const float scale = std::max(std::fabs(batch.min[i]), std::fabs(batch.max[i])) / qmax;
      if (std::isnan(scales_[i])) {
        scales_[i] = scale;
      } else {
        const float old = kvant::detail::separate_rounding(scales_[i] * momentum_);
        const float add = kvant::detail::separate_rounding(scale * (1.0f - momentum_));
        scales_[i] = old + add;
      }
    }
  }
  /// One a block; NaN where nothing was seen; empty before the first batch.
  [[nodiscard]] const std::vector<float>& scales() const noexcept { return scales_; }
  /// int8 codes from -127 to 127 by these scales.
  /// @throws Error invalid_argument before the first batch: activations without a range would be
  ///         cut off anywhere
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    if (scales_.empty()) {
      kvant::detail::fail(ErrorCode::invalid_argument,
                          "the observer has seen no batch; an activation without a range cannot be "
                          "quantized");
    }
    const auto qmax = static_cast<float>(scheme.highest);
    BlockRange range;
    for (const float scale : scales_) {
      range.max.push_back(scale * qmax);
      range.min.push_back(-scale * qmax);
    }
    QuantParams params = kvant::detail::observed_params(range, scheme, block_);
    params.scale = scales_;
    return params;
  }

 private:
  float momentum_;
  BlockShape block_;
  NonFinite non_finite_;
  std::vector<float> scales_;
};

}  // namespace kvant::core

namespace kvant {
// The compiled library has nothing to add to these.
using core::AbsmaxMomentumObserver;
using core::DistributionObserver;
using core::EntropyObserver;
using core::MseObserver;
using core::PercentileObserver;
}  // namespace kvant
