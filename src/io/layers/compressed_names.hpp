#pragma once

// What compressed-tensors calls the tensors of a layer: NAME and one of these.

#include <string_view>

namespace kvant::io {

inline constexpr std::string_view kPackedWeight = ".weight_packed";
inline constexpr const char* kWeightScale = ".weight_scale";
inline constexpr const char* kWeightZeroPoint = ".weight_zero_point";

}  // namespace kvant::io
