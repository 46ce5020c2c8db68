#pragma once

// The floats that are no numbers.

#include <limits>

namespace kvant::test {

inline constexpr float kInf = std::numeric_limits<float>::infinity();
inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

}  // namespace kvant::test
