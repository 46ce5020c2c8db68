#pragma once

// OpenFile: a regular file that is open for reading: its descriptor, its size, and positioned reads
// into the callers' own buffers, for where a mapping would let the resident set grow with the file.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace kvant::io {

class OpenFile {
 public:
  /// @throws Error io: the system refuses, or the path is not a regular file
  explicit OpenFile(const std::filesystem::path& path);
  ~OpenFile();
  OpenFile(OpenFile&& other) noexcept;
  OpenFile& operator=(OpenFile&&) = delete;
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  [[nodiscard]] const std::filesystem::path& path() const noexcept { return path_; }

  [[nodiscard]] int descriptor() const noexcept { return descriptor_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Fills `into` with the bytes from `offset` on; from any number of threads at once.
  /// @throws Error io, also where the file ends before
  void read_at(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace kvant::io
