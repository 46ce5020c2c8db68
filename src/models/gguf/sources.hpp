#pragma once

// Which tensors of a checkpoint a GGUF file's tensors are made of.

#include <string>
#include <vector>

#include "kvant/io/finding.hpp"
#include "kvant/models/config.hpp"
#include "models/gguf/tensor_map.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {

/// Gives each tensor the names that the checkpoint has for its sources (base models are saved
/// without the prefix, and a tied table may have the head's name), and drops what the model lacks.
/// Shapes are checked, so that nothing is written of a checkpoint that does not fit its config.
/// @param where     for messages
/// @param tensors   of map_tensors
/// @param warnings  gets one for tensors that have no place in a GGUF file
/// @throws Error unsupported: parts of the model that GGUF's architecture cannot say, which the
///         message names; invalid_file, shape_mismatch: tensors that are missing or of another
///         shape
void find_sources(const WeightSource& source, const Config& config, const std::string& where,
                  std::vector<MappedTensor>& tensors, std::vector<io::Warning>& warnings);

}  // namespace kvant::models
