#pragma once

// FileBytes: all bytes of a file, mapped or read. The OS's errors become Error{io}.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "io/file/open_file.hpp"

namespace kvant::io {

class FileBytes {
 public:
  FileBytes() = default;
  /// Maps the file (read-only, private). A file that shrinks while mapped raises SIGBUS on access.
  static FileBytes map(const OpenFile& file);
  /// Reads the whole file into memory, in one allocation of its size.
  /// @param limit files above it are refused with Error{invalid_file} before anything is allocated
  static FileBytes read(const std::filesystem::path& path, std::uint64_t limit = UINT64_MAX);
  ~FileBytes();
  FileBytes(FileBytes&& other) noexcept;
  FileBytes& operator=(FileBytes&& other) noexcept;
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;

  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  /// Tells the OS that a range is not needed soon: its mapped pages leave the resident set (and
  /// come back from the file when touched). Nothing happens to bytes that were read.
  void release(std::size_t offset, std::size_t size) const noexcept;

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  bool mapped_ = false;
};

}  // namespace kvant::io
