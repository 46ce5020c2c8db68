#pragma once

// Names that other tools leave in checkpoints, and that a loader does not look for.

#include <vector>

#include "io/checkpoint/checkpoint_source.hpp"
#include "kvant/io/finding.hpp"

namespace kvant::io {

/// A warning for each kind of such names.
void warn_of_names(const CheckpointSource& source, std::vector<Warning>& warnings);

}  // namespace kvant::io
