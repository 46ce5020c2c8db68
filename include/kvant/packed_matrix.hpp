#pragma once

/// @file
/// PackedMatrix, the name that packed int8 codes had before there were other formats.

#include "kvant/packed_weights.hpp"

namespace kvant {

/// Packed int8 codes, by their older name.
using PackedMatrix = PackedWeights;

}  // namespace kvant
