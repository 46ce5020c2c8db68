#pragma once

// What is in a folder.

#include <cstddef>
#include <filesystem>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "support/temp_folder.hpp"

namespace kvant::test {

inline std::size_t entries_in(const std::filesystem::path& folder) {
  return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(folder),
                                                std::filesystem::directory_iterator()));
}

/// Names and bytes of files.
using Contents = std::map<std::string, std::vector<std::byte>>;

/// Those of a folder; none where there is no folder.
inline Contents contents_of(const std::filesystem::path& folder) {
  Contents result;
  if (!std::filesystem::exists(folder)) return result;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    result[entry.path().filename().string()] = read_bytes(entry.path());
  }
  return result;
}

}  // namespace kvant::test
