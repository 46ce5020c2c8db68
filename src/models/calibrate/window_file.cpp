#include "models/calibrate/window_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "kvant/error.hpp"

namespace kvant::models {

WindowFile::WindowFile(std::filesystem::path path, const std::vector<std::int64_t>& tokens,
                       std::int64_t width)
    : path_(std::move(path)), begins_(1, 0) {
  for (const std::int64_t count : tokens) begins_.push_back(begins_.back() + count * width);
}

WindowFile::~WindowFile() {
  close();
}

void WindowFile::close() noexcept {
  if (file_ >= 0) ::close(file_);
  file_ = -1;
}

void WindowFile::fail(const char* what) const {
  throw Error(ErrorCode::io, path_.string() + ": cannot " + what + ": " + std::strerror(errno));
}

bool WindowFile::open_existing() {
  close();
  file_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC);
  struct stat info {};
  const bool whole =
      file_ >= 0 && ::fstat(file_, &info) == 0 &&
      info.st_size == static_cast<off_t>(begins_.back()) * static_cast<off_t>(sizeof(float));
  if (!whole) close();
  return whole;
}

void WindowFile::create() {
  close();
  file_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (file_ < 0) fail("be written");
}

void WindowFile::read(std::size_t w, std::vector<float>& rows) const {
  rows.resize(static_cast<std::size_t>(begins_[w + 1] - begins_[w]));
  auto* to = reinterpret_cast<char*>(rows.data());
  auto at = static_cast<off_t>(begins_[w]) * static_cast<off_t>(sizeof(float));
  std::size_t left = rows.size() * sizeof(float);
  while (left > 0) {
    const ssize_t got = ::pread(file_, to, left, at);
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    if (got <= 0) fail("be read");
    to += got;
    at += got;
    left -= static_cast<std::size_t>(got);
  }
}

void WindowFile::write(std::size_t w, const std::vector<float>& rows) {
  const auto* from = reinterpret_cast<const char*>(rows.data());
  auto at = static_cast<off_t>(begins_[w]) * static_cast<off_t>(sizeof(float));
  std::size_t left = rows.size() * sizeof(float);
  while (left > 0) {
    const ssize_t put = ::pwrite(file_, from, left, at);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) fail("be written");
    from += put;
    at += put;
    left -= static_cast<std::size_t>(put);
  }
}

void WindowFile::finish() {
  if (::fsync(file_) != 0) fail("be made durable");
}

void WindowFile::remove() noexcept {
  close();
  std::error_code ignored;
  std::filesystem::remove(path_, ignored);
}

}  // namespace kvant::models
