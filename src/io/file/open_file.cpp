#include "io/file/open_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>
#include <utility>

#include "io/file/os_error.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

OpenFile::OpenFile(const std::filesystem::path& path) : path_(path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer; regular files do not mind.
  descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (descriptor_ < 0) throw_os_error(path.string(), "cannot open", errno);
  struct stat status {};
  if (::fstat(descriptor_, &status) != 0) {
    const int code = errno;
    ::close(descriptor_);
    throw_os_error(path.string(), "cannot stat", code);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(ErrorCode::io, path.string() + ": is not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
  if (size_ > std::numeric_limits<std::size_t>::max() / 2) {
    ::close(descriptor_);
    throw Error(ErrorCode::io, path.string() + ": too large for this machine");
  }
}

OpenFile::OpenFile(OpenFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

OpenFile::~OpenFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void OpenFile::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count =
        ::pread(descriptor_, into.data(), into.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_os_error(path_.string(), "cannot read", errno);
    if (count == 0) {
      throw Error(ErrorCode::io, path_.string() + ": ends at byte " + std::to_string(offset) +
                                     "; it was changed while it was read");
    }
    offset += static_cast<std::uint64_t>(count);
    into = into.subspan(static_cast<std::size_t>(count));
  }
}

}  // namespace kvant::io
