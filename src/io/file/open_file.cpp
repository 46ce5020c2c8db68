#include "io/file/open_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <limits>

#include "io/file/os_error.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

OpenFile::OpenFile(const std::filesystem::path& path) {
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

OpenFile::~OpenFile() {
  ::close(descriptor_);
}

}  // namespace kvant::io
