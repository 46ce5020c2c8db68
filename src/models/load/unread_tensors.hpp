#pragma once

// What a checkpoint has and a model does not read.

#include "models/load/parts.hpp"

namespace kvant::models {

/// Weights and biases inside blocks, and of a GGUF file all tensors, that no part of the model is
/// made of: the model would be another than the one that was saved. Masks and tables that code made
/// (rotary frequencies) are none, and neither is a bias of zeros, as some quantizers write it for
/// every layer.
/// @throws Error unsupported, naming the first
void require_all_read(const Config& config, const PartLoader& parts, const WeightSource& source);

}  // namespace kvant::models
