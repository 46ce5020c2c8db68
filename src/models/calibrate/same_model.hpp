#pragma once

// Whether statistics are of the model at hand.

#include <filesystem>
#include <string>

#include "kvant/models/statistics.hpp"

namespace kvant::models {

/// @param who begins the message
/// @throws Error invalid_file where they are of another model; as load_model
void check_same_model(Context& context, const std::filesystem::path& model, const Config& config,
                      const StatisticsFile& statistics, const std::string& who);

}  // namespace kvant::models
