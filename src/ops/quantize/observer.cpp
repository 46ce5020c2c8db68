#include "kvant/observer.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "kvant/core/float_environment.hpp"
#include "kvant/float_element.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

struct Extremes {
  float min = kInfinity;
  float max = -kInfinity;
};

// True if one of `count` elements is NaN or infinite. Integer compares, which the compiler turns
// into vectors; the kernels' minimum and maximum do not see NaN.
template <class Bits, Bits kExponent>
bool any_special(const void* data, std::int64_t count) noexcept {
  const auto* bytes = static_cast<const std::byte*>(data);
  Bits largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    Bits bits;
    std::memcpy(&bits, bytes + i * static_cast<std::int64_t>(sizeof(Bits)), sizeof(Bits));
    const auto magnitude = static_cast<Bits>(bits & std::numeric_limits<Bits>::max());
    largest = std::max(largest, magnitude);
  }
  return largest >= kExponent;
}

class RangeScan {
 public:
  RangeScan(Context& context, const ConstAnyMatrix& x, BlockShape block, NonFinite non_finite)
      : context_(context), x_(x), non_finite_(non_finite) {
    block_rows_ = block.rows == 0 ? x.rows : std::min(block.rows, x.rows);
    block_cols_ = block.cols == 0 ? x.cols : std::min(block.cols, x.cols);
    grid_rows_ = block.count_rows(x.rows);
    grid_cols_ = block.count_cols(x.cols);
    const auto size = static_cast<std::size_t>(grid_rows_) * static_cast<std::size_t>(grid_cols_);
    range_.min.assign(size, kInfinity);
    range_.max.assign(size, -kInfinity);
  }

  BlockRange run() {
    // A unit of work: one row of blocks, some of its columns.
    const std::int64_t blocks_per_unit = std::max<std::int64_t>(1, 1024 / block_cols_);
    const std::int64_t units_per_row = (grid_cols_ + blocks_per_unit - 1) / blocks_per_unit;
    detail::parallel(context_, grid_rows_ * units_per_row, x_.rows * x_.cols,
                     [&](std::int64_t begin, std::int64_t end) {
                       for (std::int64_t unit = begin; unit < end; ++unit) {
                         const std::int64_t first = unit % units_per_row * blocks_per_unit;
                         scan_unit(unit / units_per_row, first,
                                   std::min(grid_cols_, first + blocks_per_unit));
                       }
                     });
    if (special_.load()) report_special();
    return std::move(range_);
  }

 private:
  [[nodiscard]] const void* at(std::int64_t row, std::int64_t col) const noexcept {
    return static_cast<const std::byte*>(x_.data) +
           (row * x_.stride + col) * (describe(x_.dtype).bits / 8);
  }

  [[nodiscard]] float value(std::int64_t row, std::int64_t col) const noexcept {
    return detail::load_element(x_.data, x_.dtype, row * x_.stride + col);
  }

  [[nodiscard]] bool has_special(std::int64_t row, std::int64_t col,
                                 std::int64_t count) const noexcept {
    switch (x_.dtype) {
      case DType::float16: return any_special<std::int16_t, 0x7C00>(at(row, col), count);
      case DType::bfloat16: return any_special<std::int16_t, 0x7F80>(at(row, col), count);
      default: return any_special<std::int32_t, 0x7F800000>(at(row, col), count);
    }
  }

  void scan_unit(std::int64_t grid_row, std::int64_t first, std::int64_t last) noexcept {
    const std::int64_t row_begin = grid_row * block_rows_;
    const std::int64_t row_end = std::min(x_.rows, row_begin + block_rows_);
    const std::int64_t col_begin = first * block_cols_;
    const std::int64_t col_end = std::min(x_.cols, last * block_cols_);
    if (non_finite_ == NonFinite::error) {
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        if (has_special(row, col_begin, col_end - col_begin)) {
          special_.store(true);
          return;
        }
      }
    }
    float* min = range_.min.data() + grid_row * grid_cols_;
    float* max = range_.max.data() + grid_row * grid_cols_;
    const KernelTable& kernels = context_.kernels();
    if (block_cols_ == 1) {
      kernels.range(
          {{at(row_begin, col_begin), x_.dtype, row_end - row_begin, last - first, x_.stride},
           true,
           min + first,
           max + first});
    } else {
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        for (std::int64_t b = first; b < last; ++b) {
          const std::int64_t col = b * block_cols_;
          const std::int64_t cols = std::min(x_.cols, col + block_cols_) - col;
          Extremes here;
          kernels.range(
              {{at(row, col), x_.dtype, 1, cols, x_.stride}, false, &here.min, &here.max});
          min[b] = std::min(min[b], here.min);
          max[b] = std::max(max[b], here.max);
        }
      }
    }
    for (std::int64_t b = first; b < last; ++b) {  // infinities, where they are to be ignored
      if (std::isfinite(min[b]) && std::isfinite(max[b])) continue;
      Extremes finite;
      const std::int64_t end = std::min(x_.cols, (b + 1) * block_cols_);
      for (std::int64_t row = row_begin; row < row_end; ++row) {
        for (std::int64_t col = b * block_cols_; col < end; ++col) {
          const float v = value(row, col);
          if (!std::isfinite(v)) continue;
          finite.min = std::min(finite.min, v);
          finite.max = std::max(finite.max, v);
        }
      }
      min[b] = finite.min;
      max[b] = finite.max;
    }
  }

  [[noreturn]] void report_special() const {
    for (std::int64_t row = 0; row < x_.rows; ++row) {
      for (std::int64_t col = 0; col < x_.cols; ++col) {
        const float v = value(row, col);
        if (!std::isfinite(v)) detail::fail_not_finite(v, row, col);
      }
    }
    detail::fail(ErrorCode::not_finite, "x changed while it was read");
  }

  Context& context_;
  const ConstAnyMatrix& x_;
  NonFinite non_finite_;
  std::int64_t block_rows_ = 0;
  std::int64_t block_cols_ = 0;
  std::int64_t grid_rows_ = 0;
  std::int64_t grid_cols_ = 0;
  BlockRange range_;
  std::atomic<bool> special_{false};
};

}  // namespace

BlockRange block_range(Context& context, ConstAnyMatrix x, BlockShape block, NonFinite non_finite) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("choose_params", context);
  detail::check_float("block_range", "x", x);
  detail::check_block("block_range", block);
  if (x.rows == 0 || x.cols == 0) return {};
  if (block.count_rows(x.rows) * block.count_cols(x.cols) == 1 && x.rows > 1) {
    // One block: by rows first, so that threads have something to share.
    const BlockRange rows = RangeScan(context, x, per_row, non_finite).run();
    return {{*std::min_element(rows.min.begin(), rows.min.end())},
            {*std::max_element(rows.max.begin(), rows.max.end())}};
  }
  return RangeScan(context, x, block, non_finite).run();
}

void MinMaxObserver::observe(ConstAnyMatrix x) {
  observe(default_context(), x);
}

void MinMaxObserver::observe(Context& context, ConstAnyMatrix x) {
  detail::take_extremes(range_, block_range(context, x, block_, non_finite_));
}

QuantParams MinMaxObserver::params(const QuantScheme& scheme) const {
  return detail::observed_params(range_, scheme, block_);
}

MovingAverageObserver::MovingAverageObserver(float c, BlockShape block, NonFinite non_finite)
    : c_(c), block_(block), non_finite_(non_finite) {
  detail::check_averaging(c);
}

void MovingAverageObserver::observe(ConstAnyMatrix x) {
  observe(default_context(), x);
}

void MovingAverageObserver::observe(Context& context, ConstAnyMatrix x) {
  detail::take_average(range_, block_range(context, x, block_, non_finite_), c_);
}

QuantParams MovingAverageObserver::params(const QuantScheme& scheme) const {
  return detail::observed_params(range_, scheme, block_);
}

}  // namespace kvant
