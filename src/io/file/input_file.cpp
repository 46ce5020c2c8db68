#include "io/file/input_file.hpp"

#include <unistd.h>

#include <cerrno>

#include "io/file/os_error.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

void InputFile::read_at(std::uint64_t offset, std::span<std::byte> into) const {
  while (!into.empty()) {
    const ssize_t count =
        ::pread(file_.descriptor(), into.data(), into.size(), static_cast<off_t>(offset));
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
