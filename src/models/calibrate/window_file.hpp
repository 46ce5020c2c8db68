#pragma once

// WindowFile: the rows of many windows between two blocks, on disk: calibration reads what one
// block made of them, and writes what the next one makes.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "kvant/io/safetensors_stream.hpp"

namespace kvant::models {

/// A safetensors file with a tensor for each window, which appears whole or not at all.
class WindowFile {
 public:
  /// @param tokens of each window
  WindowFile(std::filesystem::path path, const std::vector<std::int64_t>& tokens,
             std::int64_t width);

  /// Whether it is there: it then can be read. @throws Error as SafeTensors, io
  [[nodiscard]] bool open_existing();
  /// @throws Error io
  void create();
  /// Window w, [tokens, width], of a file that was opened. @throws Error io
  void read(std::size_t w, std::vector<float>& rows) const;
  /// Of one that was created. @throws Error io
  void write(std::size_t w, const std::vector<float>& rows);
  /// Makes what was created durable, and opens it. @throws Error io
  void finish();
  /// Closes it and takes it from the disk.
  void remove() noexcept;

 private:
  std::filesystem::path path_;
  const std::vector<std::int64_t>& tokens_;
  std::int64_t width_;
  std::optional<io::SafeTensorsStream> out_;
  std::optional<io::SafeTensors> in_;
};

}  // namespace kvant::models
