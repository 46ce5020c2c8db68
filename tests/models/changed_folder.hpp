#pragma once

// Models that differ from those in the test data by what their config.json says.

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support/temp_folder.hpp"

namespace kvant::test {

/// A copy of a folder, in place of what was there, whose config.json says something else.
inline void copy_with(const std::filesystem::path& from, const std::filesystem::path& to,
                      const nlohmann::json& changes) {
  std::filesystem::remove_all(to);
  std::filesystem::copy(from, to);
  nlohmann::json config = nlohmann::json::parse(read_text(to / "config.json"));
  config.update(changes);
  std::ofstream(to / "config.json") << config;
}

}  // namespace kvant::test
