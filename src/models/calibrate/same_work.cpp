#include "models/calibrate/same_work.hpp"

#include <algorithm>
#include <system_error>

#include "models/calibrate/fnv.hpp"

namespace kvant::models {

namespace fs = std::filesystem;

std::uint64_t hash_of(const std::vector<std::vector<TokenId>>& windows) {
  Fnv hash;
  for (const auto& window : windows) {
    const std::size_t size = window.size();
    hash.add(&size, sizeof size);
    hash.add(window.data(), size * sizeof(window[0]));
  }
  return hash.value();
}

std::string state_of(const fs::path& path) {
  std::vector<std::string> lines;
  const auto add = [&](const fs::path& file) {
    std::error_code ignored;
    lines.push_back(file.filename().string() + " " + std::to_string(fs::file_size(file, ignored)) +
                    " " +
                    std::to_string(fs::last_write_time(file, ignored).time_since_epoch().count()));
  };
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      if (entry.is_regular_file()) add(entry.path());
    }
  } else {
    add(path);
  }
  std::sort(lines.begin(), lines.end());
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

}  // namespace kvant::models
