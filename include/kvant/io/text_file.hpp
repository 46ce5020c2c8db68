#pragma once

/// @file
/// Small files that people write, read at once.

#include <cstdint>
#include <filesystem>
#include <string>

#include "kvant/config.hpp"

namespace kvant::io {

/// All bytes of a regular file.
/// @throws Error io; invalid_file above `limit` bytes, before any memory is taken
[[nodiscard]] KVANT_API std::string read_text_file(const std::filesystem::path& path,
                                                   std::uint64_t limit = 256u << 20);

}  // namespace kvant::io
