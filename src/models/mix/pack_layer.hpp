#pragma once

// Floats into any format that a layer can be in: those of PackedWeights::quantize, and GGUF's
// blocks.

#include "kvant/context.hpp"
#include "kvant/models/layer_format.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::models {

/// @throws Error as PackedWeights::quantize; invalid_argument: rows that are no multiple of a block
[[nodiscard]] PackedWeights pack_layer(Context& context, ConstAnyMatrix weights, LayerFormat format,
                                       Arithmetic arithmetic);

}  // namespace kvant::models
