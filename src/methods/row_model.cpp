#include "methods/row_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>

namespace kvant::methods {
namespace {

/// Of the bins below a magnitude: the sum of x^2, taken in the middle of each bin.
double power_below(const InputStatistics& statistics, double limit) {
  double sum = 0;
  for (std::size_t i = 0; i < statistics.histogram.size(); ++i) {
    if (statistics.histogram[i] == 0) continue;
    const double low = std::bit_cast<float>(static_cast<std::uint32_t>(i << 20));
    const double high = std::bit_cast<float>(static_cast<std::uint32_t>((i + 1) << 20));
    if (!(low < limit) || !std::isfinite(high)) continue;
    const double middle = 0.5 * (low + high);
    sum += static_cast<double>(statistics.histogram[i]) * middle * middle;
  }
  return sum;
}

}  // namespace

RowModel::RowModel(const InputStatistics& statistics) {
  const auto features = static_cast<std::size_t>(statistics.features());
  const auto rows = static_cast<double>(statistics.rows);
  const double threshold = static_cast<double>(statistics.threshold);
  power.resize(features);
  double outlier_elements = 0;  // in a row
  double ordinary = 0;          // sum of squares of the means
  double reach = 0;
  for (std::size_t i = 0; i < features; ++i) {
    const auto feature = static_cast<std::int64_t>(i);
    const double share = static_cast<double>(statistics.outliers[i]) / rows;
    const double absmax = static_cast<double>(statistics.absmax(feature));
    double mean = statistics.mean_abs(feature);
    reach = std::max(reach, std::min(absmax, threshold));
    if (share > 0) {
      const double size = std::clamp(mean / share, std::min(threshold, absmax), absmax);
      outliers.push_back({i, share, size});
      outlier_elements += share;
      mean = share < 1 ? std::max(0.0, (mean - share * size) / (1 - share)) : 0.0;
    }
    power[i] = mean * mean;
    ordinary += mean * mean * (1 - share);
  }
  std::stable_sort(outliers.begin(), outliers.end(),
                   [](const auto& a, const auto& b) { return a.share > b.share; });
  // Features differ in size; that each has the same shape around its mean is what is assumed.
  const double shape =
      ordinary > 0 ? std::max(1.0, power_below(statistics, threshold) / (rows * ordinary)) : 1.0;
  for (double& value : power) value *= shape;
  const double above = (1.0 + outlier_elements) / static_cast<double>(features);
  const double found = static_cast<double>(statistics.percentile(std::max(0.0, 1.0 - above)));
  largest = std::min(found, reach);
  largest_share = reach > 0 ? largest / reach : 0.0;
}

}  // namespace kvant::methods
