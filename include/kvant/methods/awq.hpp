#pragma once

/// @file
/// AWQ (arXiv 2306.00978): inputs that matter are scaled up before their weights are rounded, and
/// groups whose range costs more than it is worth are clipped. SmoothQuant (arXiv 2211.10438): part
/// of the activations' range moves into the weights.

#include <cstdint>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/methods/gram.hpp"
#include "kvant/methods/group_codes.hpp"
#include "kvant/methods/input_statistics.hpp"

namespace kvant::methods {

/// What the search found.
struct ScaleSearch {
  std::vector<float> scales;  ///< of each input: weights times it, activations divided by it
  double ratio = 0;           ///< the power of the activations' means that was best
  double error = 0;           ///< of the layers' outputs, with these scales
  double error_before = 0;    ///< with none
};

/// The scales that lose least in rounding layers with one input: s = mean|x|^r, divided by the root
/// of its smallest times its largest, for r = 0, 1/20, ..., 19/20. The loss is that of the layers'
/// own outputs, from the second moments (AutoAWQ looks at the outputs of the module they are in).
/// @param layers  weights [any, features]
/// @throws Error shape_mismatch, not_finite, invalid_argument
[[nodiscard]] KVANT_API ScaleSearch
search_scales(Context& context, const std::vector<MatrixView<const float>>& layers,
              const InputStatistics& statistics, const GramMatrix& gram, const GroupScheme& scheme);

/// Weights rounded to nearest after the range of each group was shrunk, in steps of a twentieth
/// down to a half, to where the group's share of the output's error is smallest (the second moments
/// within the group).
/// @param w [outputs, features], scaled; @param gram of activations divided by the same scales
/// @throws Error shape_mismatch, not_finite, invalid_argument
[[nodiscard]] KVANT_API GroupCodes clip_and_round(MatrixView<const float> w, const GramMatrix& gram,
                                                  const GroupScheme& scheme);

/// SmoothQuant's factors: s = absmax of the input^alpha / absmax of its weights^(1 - alpha), both
/// at least 1e-5; weights are multiplied by them, activations divided.
/// @param layers  weights [any, features] that read the input
/// @throws Error shape_mismatch, invalid_argument (alpha outside [0, 1])
[[nodiscard]] KVANT_API std::vector<float> smooth_scales(
    const std::vector<MatrixView<const float>>& layers, const InputStatistics& statistics,
    double alpha = 0.5);

}  // namespace kvant::methods
