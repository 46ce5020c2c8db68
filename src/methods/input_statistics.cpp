#include "kvant/methods/input_statistics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <string>

#include "kvant/error.hpp"
#include "kvant/float_element.hpp"
#include "kvant/parallel_tasks.hpp"

namespace kvant::methods {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr std::int64_t kFeaturesPerTask = 64;
constexpr std::int64_t kRowsPerTask = 64;

std::size_t bin_of(float magnitude) noexcept {
  return std::bit_cast<std::uint32_t>(magnitude) >> 20;
}

}  // namespace

InputStatistics::InputStatistics(std::int64_t features, float outlier_threshold)
    : threshold(outlier_threshold) {
  if (features < 0 || !(outlier_threshold > 0)) {
    throw Error(ErrorCode::invalid_argument,
                "InputStatistics: " + std::to_string(features) + " features, threshold " +
                    std::to_string(outlier_threshold) + "; it must be above 0");
  }
  const auto size = static_cast<std::size_t>(features);
  min.assign(size, kInfinity);
  max.assign(size, -kInfinity);
  sum_abs.assign(size, 0.0);
  outliers.assign(size, 0);
  histogram.assign(kBins, 0);
}

void InputStatistics::observe(Context& context, ConstAnyMatrix x) {
  if (x.cols != features()) {
    throw Error(ErrorCode::shape_mismatch, "InputStatistics: x has " + std::to_string(x.cols) +
                                               " features, not " + std::to_string(features()));
  }
  if (x.dtype != DType::float32 && x.dtype != DType::float16 && x.dtype != DType::bfloat16) {
    throw Error(ErrorCode::unsupported, "InputStatistics: x is " + std::string(to_string(x.dtype)) +
                                            "; float32, float16 and bfloat16 are possible");
  }
  const auto value = [&](std::int64_t r, std::int64_t c) {
    return detail::load_element(x.data, x.dtype, r * x.stride + c);
  };
  std::mutex mutex;
  std::int64_t with_outlier = 0;
  std::vector<std::int64_t> counts(kBins);
  parallel_tasks(
      context.executor(), (x.rows + kRowsPerTask - 1) / kRowsPerTask, [&](std::int64_t task) {
        std::array<std::uint32_t, kBins> bins{};
        std::int64_t rows_with_outlier = 0;
        const std::int64_t end = std::min(x.rows, (task + 1) * kRowsPerTask);
        for (std::int64_t r = task * kRowsPerTask; r < end; ++r) {
          bool outlier = false;
          for (std::int64_t c = 0; c < x.cols; ++c) {
            const float magnitude = std::fabs(value(r, c));
            if (!(magnitude < kInfinity)) {
              throw Error(ErrorCode::not_finite, "InputStatistics: activation (" +
                                                     std::to_string(r) + ", " + std::to_string(c) +
                                                     ") is " +
                                                     (std::isnan(magnitude) ? "NaN" : "infinite"));
            }
            ++bins[bin_of(magnitude)];
            outlier = outlier || magnitude >= threshold;
          }
          rows_with_outlier += outlier;
        }
        const std::lock_guard lock(mutex);
        with_outlier += rows_with_outlier;
        for (std::size_t i = 0; i < kBins; ++i) counts[i] += bins[i];
      });
  for (std::size_t i = 0; i < kBins; ++i) histogram[i] += counts[i];
  outlier_rows += with_outlier;
  rows += x.rows;
  parallel_tasks(context.executor(), (x.cols + kFeaturesPerTask - 1) / kFeaturesPerTask,
                 [&](std::int64_t task) {
                   const std::int64_t begin = task * kFeaturesPerTask;
                   const std::int64_t end = std::min(x.cols, begin + kFeaturesPerTask);
                   for (std::int64_t r = 0; r < x.rows; ++r) {
                     for (std::int64_t c = begin; c < end; ++c) {
                       const auto at = static_cast<std::size_t>(c);
                       const float v = value(r, c);
                       min[at] = std::min(min[at], v);
                       max[at] = std::max(max[at], v);
                       sum_abs[at] += static_cast<double>(std::fabs(v));
                       outliers[at] += std::fabs(v) >= threshold;
                     }
                   }
                 });
}

void InputStatistics::merge(const InputStatistics& other) {
  if (other.features() != features()) {
    throw Error(ErrorCode::shape_mismatch, "InputStatistics: " + std::to_string(other.features()) +
                                               " features merged into " +
                                               std::to_string(features()));
  }
  if (other.threshold != threshold) {
    throw Error(ErrorCode::invalid_argument,
                "InputStatistics: outliers from " + std::to_string(other.threshold) +
                    " merged into those from " + std::to_string(threshold));
  }
  for (std::size_t i = 0; i < min.size(); ++i) {
    min[i] = std::min(min[i], other.min[i]);
    max[i] = std::max(max[i], other.max[i]);
    sum_abs[i] += other.sum_abs[i];
    outliers[i] += other.outliers[i];
  }
  for (std::size_t i = 0; i < kBins; ++i) histogram[i] += other.histogram[i];
  rows += other.rows;
  outlier_rows += other.outlier_rows;
}

float InputStatistics::absmax(std::int64_t feature) const noexcept {
  const auto at = static_cast<std::size_t>(feature);
  return rows == 0 ? 0.0f : std::max(std::fabs(min[at]), std::fabs(max[at]));
}

double InputStatistics::mean_abs(std::int64_t feature) const noexcept {
  return rows == 0 ? 0.0 : sum_abs[static_cast<std::size_t>(feature)] / static_cast<double>(rows);
}

std::vector<std::int64_t> InputStatistics::outlier_features() const {
  std::vector<std::int64_t> result;
  for (std::size_t i = 0; i < outliers.size(); ++i) {
    if (outliers[i] > 0) result.push_back(static_cast<std::int64_t>(i));
  }
  return result;
}

float InputStatistics::percentile(double share) const noexcept {
  const double elements = static_cast<double>(rows) * static_cast<double>(features());
  double seen = 0;
  for (std::size_t i = 0; i < histogram.size(); ++i) {
    seen += static_cast<double>(histogram[i]);
    if (histogram[i] > 0 && seen >= share * elements) {
      return std::bit_cast<float>(static_cast<std::uint32_t>((i + 1) << 20));
    }
  }
  return 0.0f;
}

}  // namespace kvant::methods
