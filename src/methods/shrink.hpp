#pragma once

// The shrinking step of half-quadratic quantization.

#include <algorithm>
#include <cmath>

namespace kvant::methods {

/// The part of an error that the p-norm takes for an outlier: the proximal point of |e|^p at beta.
[[nodiscard]] inline double shrunk(double error, double norm, double beta) noexcept {
  const double size = std::fabs(error);
  if (size == 0.0) return 0.0;
  return std::copysign(std::max(0.0, size - std::pow(size, norm - 1.0) / beta), error);
}

}  // namespace kvant::methods
