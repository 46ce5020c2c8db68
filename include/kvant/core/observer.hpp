#pragma once

/// @file
/// The range of every block of a matrix and the observers of kvant/observer.hpp, as templates that
/// need no library.

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>

#include "kvant/block_range.hpp"
#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/visit_float.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::core {

namespace detail {

/// x is checked and not empty.
template <class T>
void scan_range(const MatrixView<T>& x, BlockShape block, NonFinite non_finite, BlockRange& range) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::int64_t block_rows = block.rows == 0 ? x.rows() : block.rows;
  const std::int64_t block_cols = block.cols == 0 ? x.cols() : block.cols;
  const std::int64_t grid_cols = block.count_cols(x.cols());
  const auto size =
      static_cast<std::size_t>(block.count_rows(x.rows())) * static_cast<std::size_t>(grid_cols);
  range.min.assign(size, kInfinity);
  range.max.assign(size, -kInfinity);
  for (std::int64_t r = 0; r < x.rows(); ++r) {
    for (std::int64_t b = 0; b < grid_cols; ++b) {
      const auto at = static_cast<std::size_t>(r / block_rows * grid_cols + b);
      const std::int64_t begin = b * block_cols;
      const std::int64_t end = block_cols < x.cols() - begin ? begin + block_cols : x.cols();
      for (std::int64_t c = begin; c < end; ++c) {
        const auto value = static_cast<float>(x(r, c));
        if (!std::isfinite(value)) {
          if (non_finite == NonFinite::error) kvant::detail::fail_not_finite(value, r, c);
          continue;
        }
        if (value < range.min[at]) range.min[at] = value;
        if (value > range.max[at]) range.max[at] = value;
      }
    }
  }
}

}  // namespace detail

/// The smallest and largest value of each block.
/// @throws Error not_finite, unsupported (dtype), invalid_argument
template <FloatMatrix X>
[[nodiscard]] BlockRange block_range(const X& x, BlockShape block,
                                     NonFinite non_finite = NonFinite::error) {
  const kvant::detail::ScopedFloatEnvironment environment;
  const auto view = detail::view_of(x);
  const ConstAnyMatrix any(view);
  kvant::detail::check_float("block_range", "x", any);
  kvant::detail::check_block("block_range", block);
  BlockRange range;
  if (any.rows == 0 || any.cols == 0) return range;
  detail::visit_float(
      view, [&](const auto& typed) { detail::scan_range(typed, block, non_finite, range); });
  return range;
}

/// Running minimum and maximum over all batches (torch's MinMaxObserver and
/// PerChannelMinMaxObserver).
class MinMaxObserver {
 public:
  explicit MinMaxObserver(BlockShape block = per_tensor, NonFinite non_finite = NonFinite::error)
      : block_(block), non_finite_(non_finite) {}

  /// @throws Error as block_range; shape_mismatch if the batch has another number of blocks
  template <FloatMatrix X>
  void observe(const X& x) {
    kvant::detail::take_extremes(range_, core::block_range(x, block_, non_finite_));
  }

  /// @throws Error invalid_argument where nothing was observed and there is more than one block
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    return kvant::detail::observed_params(range_, scheme, block_);
  }
  [[nodiscard]] const BlockRange& range() const noexcept { return range_; }

 private:
  BlockShape block_;
  NonFinite non_finite_;
  BlockRange range_;
};

/// The first batch's range, then m += c * (batch - m) in fp32 (torch's
/// MovingAverageMinMaxObserver).
class MovingAverageObserver {
 public:
  /// @throws Error invalid_argument for c outside (0, 1]
  explicit MovingAverageObserver(float c = 0.01f, BlockShape block = per_tensor,
                                 NonFinite non_finite = NonFinite::error)
      : c_(c), block_(block), non_finite_(non_finite) {
    kvant::detail::check_averaging(c);
  }

  template <FloatMatrix X>
  void observe(const X& x) {
    kvant::detail::take_average(range_, core::block_range(x, block_, non_finite_), c_);
  }
  [[nodiscard]] QuantParams params(const QuantScheme& scheme) const {
    return kvant::detail::observed_params(range_, scheme, block_);
  }
  [[nodiscard]] const BlockRange& range() const noexcept { return range_; }

 private:
  float c_;
  BlockShape block_;
  NonFinite non_finite_;
  BlockRange range_;
};

}  // namespace kvant::core
