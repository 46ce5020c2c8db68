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

/// Weights as int8 codes in plain rows, a scale for each output. What a format's kernels say of a
/// single weight, in two steps, so that the loads of many can be asked for together (load), before
/// any is used (value: what gather_columns has).
struct Int8Weights {
  struct Raw {
    std::int8_t code = 0;
    float scale = 0.0f;
  };
  KVANT_DEVICE static Raw load(const GemmArgs& g, std::int64_t n, std::int64_t k) {
    return {static_cast<const std::int8_t*>(g.b)[n * g.range.k_padded + k], g.columns.scale[n]};
  }
  KVANT_DEVICE static float value(const GemmArgs& g, const Raw& raw) {
    const float weight = device::multiply(device::multiply(static_cast<float>(raw.code), raw.scale),
                                          g.columns.factor);
    return rounded_to(g.columns.rounded_to, weight);
  }
};

/// Weight of feature f of output n. @tparam Weights  Int8Weights, or those of another format
template <class Weights>
KVANT_DEVICE float feature_weight(const GemmArgs& g, std::int64_t f, std::int64_t n) {
  const OutlierBlock& kept = g.epilogue.outliers.kept;
  if (f < kept.count) return load_float(kept.w, kept.w_dtype, n * kept.w_stride + f);
  const OutlierBlock& found = g.epilogue.outliers.found;
  const std::int64_t j = f - kept.count;
  if (found.w != nullptr) return load_float(found.w, found.w_dtype, n * found.w_stride + j);
  return Weights::value(g, Weights::load(g, n, g.columns.columns[j]));
}

}  // namespace
}  // namespace kvant
