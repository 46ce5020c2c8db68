#pragma once

// AWQ's scales of inputs, one candidate at a time.

#include <vector>

#include "kvant/methods/group_codes.hpp"
#include "kvant/methods/input_statistics.hpp"

namespace kvant::methods {

inline constexpr int kScaleRatios = 20;  ///< candidates: powers of 0, 1/20, ..., 19/20

/// mean|x|^ratio around 1; 1 for inputs that were always 0.
[[nodiscard]] std::vector<float> scales_for(const InputStatistics& statistics, double ratio);

/// Round(w * scales) / scales into out.
void round_scaled(const MatrixView<const float>& w, const std::vector<float>& scales,
                  const GroupScheme& scheme, std::vector<float>& out);

}  // namespace kvant::methods
