#pragma once

// Outlier features in the epilogues: which there are, their activations and their weights. Two
// groups (GemmArgs): kept features, known when the weights were made, then those found in this
// call, whose number only the device knows.

#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

/// Where a GEMM finds the second group.
struct FoundOutliers {
  const std::int64_t* count_at;  ///< null: OutlierBlock::count
  FloatRows x;                   ///< for entries that were not gathered
  float threshold;
  bool whole_columns;
  std::int64_t capacity;
};

struct GemmLaunch {
  GemmArgs args;
  FoundOutliers found;
  int y_vector;  ///< what rows of y are aligned to: bytes, at most 16
};

KVANT_DEVICE std::int64_t count_of_features(const GemmLaunch& g) {
  const Outlying& outliers = g.args.epilogue.outliers;
  return outliers.kept.count +
         (g.found.count_at != nullptr ? *g.found.count_at : outliers.found.count);
}

/// Activation of feature f in row m.
KVANT_DEVICE float feature_activation(const GemmLaunch& g, std::int64_t f, std::int64_t m) {
  const OutlierBlock& kept = g.args.epilogue.outliers.kept;
  if (f < kept.count) return kept.x[f * kept.x_stride + m];
  const OutlierBlock& found = g.args.epilogue.outliers.found;
  const std::int64_t j = f - kept.count;
  if (g.found.count_at == nullptr || j < g.found.capacity) return found.x[j * found.x_stride + m];
  const std::int64_t column = g.args.columns.columns[j];
  const float value = load_float(g.found.x.data, g.found.x.dtype, m * g.found.x.stride + column);
  return g.found.whole_columns || absolute(value) >= g.found.threshold ? value : 0.0f;
}

/// Weight of found feature j of output n, from the packed codes: gather_columns' rule.
KVANT_DEVICE float gathered_weight(const GemmArgs& g, std::int64_t j, std::int64_t n) {
  const auto code = static_cast<float>(
      static_cast<const std::int8_t*>(g.b)[n * g.range.k_padded + g.columns.columns[j]]);
  const float weight =
      device::multiply(device::multiply(code, g.columns.scale[n]), g.columns.factor);
  return rounded_to(g.columns.rounded_to, weight);
}

/// Weight of feature f of output n.
KVANT_DEVICE float feature_weight(const GemmLaunch& g, std::int64_t f, std::int64_t n) {
  const OutlierBlock& kept = g.args.epilogue.outliers.kept;
  if (f < kept.count) return load_float(kept.w, kept.w_dtype, n * kept.w_stride + f);
  const OutlierBlock& found = g.args.epilogue.outliers.found;
  const std::int64_t j = f - kept.count;
  if (found.w != nullptr) return load_float(found.w, found.w_dtype, n * found.w_stride + j);
  return gathered_weight(g.args, j, n);
}

}  // namespace
}  // namespace kvant
