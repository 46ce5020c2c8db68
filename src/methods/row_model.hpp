#pragma once

// What a row of activations is like, from counts and means alone: which features are outliers in
// which share of the rows, and how large everything is.

#include <vector>

#include "kvant/methods/input_statistics.hpp"

namespace kvant::methods {

/// A feature that is an outlier in some rows.
struct OutlierLevel {
  std::size_t feature;
  double share;  ///< of the rows
  double size;   ///< |x| there
};

struct RowModel {
  /// @param statistics with at least one row
  explicit RowModel(const InputStatistics& statistics);

  std::vector<OutlierLevel> outliers;  ///< by their shares, descending
  /// The largest element of a row, its outliers aside.
  double largest = 0;
  /// The same as a share of the largest that any row had.
  double largest_share = 0;
  std::vector<double> power;  ///< mean of x^2 of each feature, in rows where it is no outlier
};

}  // namespace kvant::methods
