#pragma once

// InputFile: positioned reads of a file by any number of threads, into the callers' own buffers.
// Used where a mapping would let the resident set grow with the file.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace kvant::io {

class InputFile {
 public:
  /// @throws Error io
  explicit InputFile(const std::filesystem::path& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }
  /// Fills `into` with the bytes from `offset` on.
  /// @throws Error io, also where the file ends before
  void read_at(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  std::uint64_t size_ = 0;
  int file_ = -1;
};

}  // namespace kvant::io
