#pragma once

// What must be the same for a calibration to go on where it was stopped.

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvant/models/tokenizer.hpp"

namespace kvant::models {

[[nodiscard]] std::uint64_t hash_of(const std::vector<std::vector<TokenId>>& windows);

/// Sizes and times of the model's files.
[[nodiscard]] std::string state_of(const std::filesystem::path& path);

}  // namespace kvant::models
