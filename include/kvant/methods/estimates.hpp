#pragma once

/// @file
/// What the methods are worth to a layer, told from what it reads and its weights before any of
/// them is run: for reports, and to choose by.

#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/methods/gram.hpp"
#include "kvant/methods/group_codes.hpp"
#include "kvant/methods/input_statistics.hpp"

namespace kvant::methods {

/// SQNR of the layers' outputs in dB: their power over that of the error. NaN: not known (no rows,
/// no second moments where they are needed, or a method that was left out).
struct MethodEstimates {
  // 8 bits: weights with a scale for each output, activations with a scale for each row.
  double int8 = 0;
  double smoothquant = 0;
  double llm_int8 = 0;  ///< outlier features in floating point, their weights too
  // 4 bits (the options' scheme), activations in float.
  double nearest = 0;
  double awq = 0;
  double gptq = 0;  ///< with act order
};

/// How estimate_methods goes about it.
struct EstimateOptions {
  GroupScheme scheme = {.bits = 4, .group = 64};
  double alpha = 0.5;       ///< of SmoothQuant
  double damp = 0.01;       ///< of GPTQ
  bool smoothquant = true;  ///< false: nothing before the layers could take its factors
  bool awq = true;          ///< the same
  std::int64_t rows = 128;  ///< of the weights that 4 bits are tried on, evenly spread
};

/// The rules. An outlier feature is as large as its mean in the rows where it is an outlier, which
/// are as few as its count says, and all features are outliers in the same rows as far as they can
/// be. Without them a row's largest element is the magnitude that one element in a row exceeds. A
/// rounding error is uniform: step^2 / 12 for int8; for 4 bits the error of the weights rounded,
/// feature by feature, times the second moment of the feature (without `moments`: from its mean and
/// the shape of the histogram). GPTQ has the same error with each second moment replaced by what
/// the features behind it cannot make up for: a Cholesky factor, features^3 / 3 operations.
/// @param layers  weights [any, features] that read the input
/// @param moments null: not known, and GPTQ is not estimated
/// @throws Error shape_mismatch, not_finite, invalid_argument, out_of_memory
[[nodiscard]] KVANT_API MethodEstimates
estimate_methods(Context& context, const std::vector<MatrixView<const float>>& layers,
                 const InputStatistics& statistics, const GramMatrix* moments,
                 const EstimateOptions& options = {});

}  // namespace kvant::methods
