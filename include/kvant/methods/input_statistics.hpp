#pragma once

/// @file
/// InputStatistics: what a layer's inputs are like, feature by feature: what SmoothQuant, AWQ,
/// LLM.int8()'s kept columns and reports about activations are made from.

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::methods {

/// Counts, ranges and sums over all rows seen. Batches may be cut anywhere and merged in any order:
/// everything but sum_abs, which is rounded in double, comes out to the same bits.
class KVANT_API InputStatistics {
 public:
  /// |x| by the eight bits of its exponent and three of its mantissa: bin = bits of |x| >> 20. Bin
  /// edges are 9 to 12 % apart.
  static constexpr std::size_t kBins = 2048;

  InputStatistics() = default;
  /// @param threshold a feature of at least this magnitude is an outlier, as in LLM.int8()
  /// @throws Error invalid_argument
  explicit InputStatistics(std::int64_t features, float threshold = 6.0f);

  /// A batch of activations [rows, features], fp32, fp16 or bf16.
  /// @throws Error shape_mismatch, unsupported (dtype), not_finite (the first such element is
  ///         named; nothing of the batch is counted then)
  void observe(Context& context, ConstAnyMatrix x);
  /// @throws Error shape_mismatch, invalid_argument (another threshold)
  void merge(const InputStatistics& other);

  [[nodiscard]] std::int64_t features() const noexcept {
    return static_cast<std::int64_t>(min.size());
  }
  [[nodiscard]] float absmax(std::int64_t feature) const noexcept;
  /// Mean of |x|; 0 before the first row.
  [[nodiscard]] double mean_abs(std::int64_t feature) const noexcept;
  /// Features that were outliers in any row; ascending.
  [[nodiscard]] std::vector<std::int64_t> outlier_features() const;
  /// A magnitude that this share of all elements does not exceed, to the upper edge of its bin; 0
  /// before the first row. @param share in [0, 1]
  [[nodiscard]] float percentile(double share) const noexcept;

  float threshold = 6.0f;
  std::int64_t rows = 0;
  std::int64_t outlier_rows = 0;  ///< that had an outlier in any feature
  std::vector<float> min;         ///< of each feature; infinite before the first row
  std::vector<float> max;
  std::vector<double> sum_abs;
  std::vector<std::int64_t> outliers;   ///< rows in which the feature was one
  std::vector<std::int64_t> histogram;  ///< [kBins], of all features
};

}  // namespace kvant::methods
