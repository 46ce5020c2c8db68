#pragma once

// Outlier features in the epilogues: which there are, their activations and their weights. Two
// groups (GemmArgs): kept features, known when the weights were made, then those found in this
// call, whose number only the device knows.

#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

struct GemmLaunch {
  GemmArgs args;
  int y_vector;  ///< what rows of y are aligned to: bytes, at most 16
};

KVANT_DEVICE std::int64_t count_of_features(const GemmArgs& g) {
  const OutlierBlock& found = g.epilogue.outliers.found;
  return g.epilogue.outliers.kept.count +
         (found.count_at != nullptr ? *found.count_at : found.count);
}

/// Activation of feature f in row m: gathered, or as GatherFeaturesArgs would have it.
KVANT_DEVICE float feature_activation(const GemmArgs& g, std::int64_t f, std::int64_t m) {
  const OutlierBlock& kept = g.epilogue.outliers.kept;
  if (f < kept.count) return kept.x[f * kept.x_stride + m];
  const OutlierBlock& found = g.epilogue.outliers.found;
  const std::int64_t j = f - kept.count;
  if (found.x != nullptr) return found.x[j * found.x_stride + m];
  const float value = load_float(g.x.data, g.x.dtype, m * g.x.stride + g.columns.columns[j]);
  return g.threshold == 0.0f || absolute(value) >= g.threshold ? value : 0.0f;
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
KVANT_DEVICE float feature_weight(const GemmArgs& g, std::int64_t f, std::int64_t n) {
  const OutlierBlock& kept = g.epilogue.outliers.kept;
  if (f < kept.count) return load_float(kept.w, kept.w_dtype, n * kept.w_stride + f);
  const OutlierBlock& found = g.epilogue.outliers.found;
  const std::int64_t j = f - kept.count;
  if (found.w != nullptr) return load_float(found.w, found.w_dtype, n * found.w_stride + j);
  return gathered_weight(g, j, n);
}

}  // namespace
}  // namespace kvant
