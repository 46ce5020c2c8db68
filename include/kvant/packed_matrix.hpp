#pragma once

/// @file
/// PackedMatrix, the name that packed int8 codes had before there were other formats.

#include "kvant/packed_weights.hpp"

namespace kvant {

using PackedMatrix = PackedWeights;

}  // namespace kvant
