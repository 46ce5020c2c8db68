#pragma once

// Names and patterns that callers give for the layers of a model: each must mean something.

#include "kvant/models/config.hpp"
#include "kvant/models/load.hpp"
#include "models/load/parts.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

/// The patterns, formats and device map of the options against the model's linear layers.
/// @throws RequestError: one that matches none, with names that there are
void check_given_names(const LoadOptions& options, const Config& config, const PartLoader& parts,
                       const WeightSource& source);

}  // namespace kvant::models
