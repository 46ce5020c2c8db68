#pragma once

// Files of statistics: one for each block while a model is calibrated, and the one of them all.

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "kvant/models/statistics.hpp"
#include "models/calibrate/observed_block.hpp"

namespace kvant::models {

/// What a block's layers read. @throws Error io
void write_statistics(const std::filesystem::path& file,
                      const std::vector<std::unique_ptr<ObservedInput>>& inputs);

/// The files of all blocks as one, piece by piece; counts inputs and layers.
/// @param metadata  of the result, but for the list of inputs
/// @throws Error io, FormatError
void join_statistics(const std::vector<std::filesystem::path>& blocks,
                     const std::filesystem::path& out, std::map<std::string, std::string> metadata,
                     CalibrateSummary& summary);

}  // namespace kvant::models
