#pragma once

// WindowFile: the rows of many windows between two blocks, on disk: calibration reads what one
// block made of them, and writes what the next one makes.

#include <cstdint>
#include <filesystem>
#include <vector>

namespace kvant::models {

class WindowFile {
 public:
  /// @param tokens of each window
  WindowFile(std::filesystem::path path, const std::vector<std::int64_t>& tokens,
             std::int64_t width);
  ~WindowFile();
  WindowFile(const WindowFile&) = delete;
  WindowFile& operator=(const WindowFile&) = delete;

  /// Whether it is there in full: it then can be read.
  [[nodiscard]] bool open_existing();
  /// @throws Error io
  void create();
  /// Window w, [tokens, width]. @throws Error io
  void read(std::size_t w, std::vector<float>& rows) const;
  void write(std::size_t w, const std::vector<float>& rows);
  /// Makes it durable. @throws Error io
  void finish();
  /// Closes it and takes it from the disk.
  void remove() noexcept;

 private:
  [[noreturn]] void fail(const char* what) const;
  void close() noexcept;

  std::filesystem::path path_;
  std::vector<std::int64_t> begins_;  ///< in floats; one more than windows
  int file_ = -1;
};

}  // namespace kvant::models
