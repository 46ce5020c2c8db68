#pragma once

/// @file
/// Which input features of a layer are outliers, found over batches of its activations: what
/// Int8Options::keep_columns and quantize_checkpoint's keep_outliers take.
///
///     kvant::OutlierFinder finder(4096);
///     for (const auto& x : batches) finder.observe(x);
///     auto layer = kvant::Int8Linear::quantize(w, bias, {.outliers = kvant::Outliers::calibrated,
///                                                        .keep_columns = finder.columns()});

#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// Remembers for each input feature in how many rows it was an outlier: an element of at least the
/// threshold, as LLM.int8() has it, or an infinity. NaN counts for nothing.
class KVANT_API OutlierFinder {
 public:
  /// @param inputs features of the layer
  /// @throws Error invalid_argument: inputs < 0, a threshold that is not positive
  explicit OutlierFinder(std::int64_t inputs, float threshold = 6.0f);

  /// A batch of activations: float32, float16 or bfloat16, [rows, inputs], any row stride.
  /// @throws Error shape_mismatch, unsupported (dtype), invalid_argument
  void observe(ConstAnyMatrix x);

  /// The features that were outliers in at least this part of the rows, and at least once;
  /// ascending. 0: in any row.
  /// @throws Error invalid_argument: a share that is not in [0, 1]
  [[nodiscard]] std::vector<std::int64_t> columns(double share = 0) const;

  [[nodiscard]] float threshold() const noexcept { return threshold_; }
  [[nodiscard]] std::int64_t inputs() const noexcept {
    return static_cast<std::int64_t>(counts_.size());
  }
  /// Rows seen.
  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  /// Rows in which each feature was an outlier.
  [[nodiscard]] const std::vector<std::int64_t>& counts() const noexcept { return counts_; }

 private:
  std::vector<std::int64_t> counts_;
  std::int64_t rows_ = 0;
  float threshold_;
};

}  // namespace kvant
