#include "io/input_file.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/os_error.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

InputFile::InputFile(const std::filesystem::path& path) : path_(path) {
  file_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not block
  if (file_ < 0) throw_os_error(path_.string(), "cannot open", errno);
  struct stat status {};
  if (::fstat(file_, &status) != 0 || !S_ISREG(status.st_mode)) {
    ::close(file_);
    throw Error(ErrorCode::io, path_.string() + ": is not a regular file");
  }
  size_ = static_cast<std::uint64_t>(status.st_size);
}

InputFile::~InputFile() {
  ::close(file_);
}

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count = ::pread(file_, into.data(), into.size(), static_cast<off_t>(offset));
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
