#pragma once

// OpenFile: the descriptor of a regular file that is open for reading, and the file's size.

#include <cstdint>
#include <filesystem>

namespace kvant::io {

class OpenFile {
 public:
  /// @throws Error io: the system refuses, or the path is not a regular file
  explicit OpenFile(const std::filesystem::path& path);
  ~OpenFile();
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

 private:
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace kvant::io
