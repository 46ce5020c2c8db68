#pragma once

/// @file
/// AtomicFile: a file that appears complete or not at all.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::io {

/// Writes to a temporary name in the same folder; commit() makes it durable and renames it over the
/// target, so that a reader (or a mapping of the old file) never sees half of it. Without commit()
/// the temporary file disappears. A target that is a symlink stays one: the file it points to is
/// replaced. A target that is no regular file (a pipe, /dev/null) is written to directly.
class KVANT_API AtomicFile {
 public:
  /// @throws Error io
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// @throws Error io (disk full, ...)
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// @throws Error io; the target is untouched then
  void commit();

 private:
  [[noreturn]] void fail(const char* what, int code) const;

  std::filesystem::path path_;
  std::filesystem::path temporary_;  ///< empty: writing to the target itself
  int file_ = -1;
};

}  // namespace kvant::io
