#pragma once

// A whole file, read-only, in memory: mapped where the system can, read where it cannot.

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace kvant::detail {

struct MappedFile {
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;  ///< keeps the bytes; null for an empty file
};

/// The file's bytes, page-aligned. The mapping is private: what others write into the file later
/// may or may not be seen, and truncating it makes reading it fatal, as for every mapped file.
/// @throws Error io (the message names the file and what the system said)
MappedFile map_file(const char* who, const std::string& path);

}  // namespace kvant::detail
