#include "io/file_bytes.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "kvant/error.hpp"

namespace kvant::io {
namespace {

[[noreturn]] void throw_os_error(const std::filesystem::path& path, const char* what, int code) {
  throw Error(ErrorCode::io,
              path.string() + ": " + what + ": " + std::generic_category().message(code));
}

/// An open file descriptor of a regular file, and its size.
class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& path) {
    // O_NONBLOCK: opening a FIFO must not wait for a writer; regular files do not mind.
    fd_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd_ < 0) throw_os_error(path, "cannot open", errno);
    struct stat status {};
    if (::fstat(fd_, &status) != 0) {
      const int code = errno;
      ::close(fd_);
      throw_os_error(path, "cannot stat", code);
    }
    if (!S_ISREG(status.st_mode)) {
      ::close(fd_);
      throw Error(ErrorCode::io, path.string() + ": is not a regular file");
    }
    size_ = static_cast<std::uint64_t>(status.st_size);
    if (size_ > std::numeric_limits<std::size_t>::max() / 2) {
      ::close(fd_);
      throw Error(ErrorCode::io, path.string() + ": too large for this machine");
    }
  }
  ~OpenFile() { ::close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  [[nodiscard]] int fd() const noexcept { return fd_; }
  [[nodiscard]] std::uint64_t size() const noexcept { return size_; }

 private:
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

}  // namespace

FileBytes FileBytes::map(const std::filesystem::path& path) {
  const OpenFile file(path);
  FileBytes result;
  if (file.size() == 0) return result;
  const auto size = static_cast<std::size_t>(file.size());
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (address == MAP_FAILED) throw_os_error(path, "cannot map", errno);
  result.data_ = static_cast<std::byte*>(address);
  result.size_ = size;
  result.mapped_ = true;
  return result;
}

FileBytes FileBytes::read(const std::filesystem::path& path, std::uint64_t limit) {
  const OpenFile file(path);
  if (file.size() > limit) {
    throw Error(ErrorCode::invalid_file, path.string() + ": " + std::to_string(file.size()) +
                                             " bytes, more than the limit of " +
                                             std::to_string(limit));
  }
  FileBytes result;
  const auto size = static_cast<std::size_t>(file.size());
  if (size == 0) return result;
  result.data_ = static_cast<std::byte*>(::operator new(size));
  std::size_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(file.fd(), result.data_ + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_os_error(path, "cannot read", errno);
    if (count == 0) break;  // it shrank in the meantime: what is there is what is judged
    done += static_cast<std::size_t>(count);
  }
  result.size_ = done;
  return result;
}

FileBytes::~FileBytes() {
  if (data_ == nullptr) return;
  if (mapped_) {
    ::munmap(data_, size_);
  } else {
    ::operator delete(data_);
  }
}

FileBytes::FileBytes(FileBytes&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mapped_(std::exchange(other.mapped_, false)) {}

FileBytes& FileBytes::operator=(FileBytes&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mapped_, other.mapped_);
  return *this;
}

void FileBytes::release(std::size_t offset, std::size_t size) const noexcept {
  if (!mapped_ || size == 0 || offset >= size_) return;
  const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  // Outwards to whole pages: a neighbour on the same page is only read again from the file.
  const std::size_t begin = offset / page * page;
  const std::size_t end = std::min(size_, offset + std::min(size, size_ - offset));
  ::madvise(data_ + begin, end - begin, MADV_DONTNEED);
}

}  // namespace kvant::io
