#pragma once

/// @file
/// AtomicFile: a file that appears complete or not at all.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::io {

/// Writes to a temporary name in the same folder; commit() makes it durable and renames it over the
/// target, so that a reader (or a mapping of the old file) never sees half of it. Without commit()
/// the temporary file disappears; after kill -9 it goes when the next one for the same target is
/// made (a lock tells it from one that is being filled). A target that is a symlink stays one: the
/// file it points to is replaced. A target that is not a regular file (a pipe, /dev/null) is
/// written to directly.
class KVANT_API AtomicFile {
 public:
  /// What commit() does with a file of that name.
  enum class Existing : std::uint8_t {
    replace,
    keep,  ///< Error io, also where it came while this one was being written
  };

  /// @param shown the file's name in messages; empty: the path
  /// @throws Error io
  explicit AtomicFile(const std::filesystem::path& path, std::string shown = {});
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// @throws Error io (disk full, ...)
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  /// Writes at a place of its own, independent of write(); from several threads at once if they
  /// write different bytes. The disk starts on large pieces at once, so that commit() is short.
  /// @throws Error io
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  /// Claims disk space for a file of this size where the file system can, so that a full disk shows
  /// now. @throws Error io
  void reserve(std::uint64_t size);
  /// From now on the file is opened anew for each write_at(): for those who write more files at
  /// once than a process may have descriptors. No write() after it. @throws Error io
  void close_between_writes();
  /// @throws Error io; the target is untouched then
  void commit(Existing existing = Existing::replace);

 private:
  class Opened;
  [[noreturn]] void fail(const char* what, int code) const;

  std::filesystem::path path_;
  std::string shown_;
  std::filesystem::path temporary_;  ///< empty: writing to the target itself
  int file_ = -1;
  int lock_ = -1;
};

}  // namespace kvant::io
