#pragma once

// The pictures of an ActivationReport.

#include <string>

#include "kvant/look/activations.hpp"

namespace kvant::look {

/// All inputs, a line each: median, percentiles and largest magnitude on one logarithmic axis, and
/// the methods to take.
[[nodiscard]] std::string overview_svg(const ActivationReport& report);
/// How often which magnitude is, both logarithmic, with the threshold.
[[nodiscard]] std::string histogram_svg(const ActivationInput& input, double threshold);
/// The largest outlier features: largest and mean magnitude, and in how many tokens.
[[nodiscard]] std::string outliers_svg(const ActivationInput& input);
/// What each method would leave, in dB.
[[nodiscard]] std::string methods_svg(const ActivationInput& input);

}  // namespace kvant::look
