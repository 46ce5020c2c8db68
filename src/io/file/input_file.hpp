#pragma once

// InputFile: positioned reads of a file by any number of threads, into the callers' own buffers.
// Used where a mapping would let the resident set grow with the file.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

#include "io/file/open_file.hpp"

namespace kvant::io {

class InputFile {
 public:
  /// @throws Error io
  explicit InputFile(const std::filesystem::path& path) : path_(path), file_(path) {}

  [[nodiscard]] std::uint64_t size() const noexcept { return file_.size(); }
  /// Fills `into` with the bytes from `offset` on.
  /// @throws Error io, also where the file ends before
  void read_at(std::uint64_t offset, std::span<std::byte> into) const;

 private:
  std::filesystem::path path_;
  OpenFile file_;
};

}  // namespace kvant::io
