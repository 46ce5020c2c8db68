#include "ops/support/mapped_file.hpp"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>

#include "kvant/aligned_array.hpp"
#include "ops/support/validate.hpp"

#if defined(__unix__)
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace kvant::detail {

#if defined(__unix__)

namespace {

[[noreturn]] void fail_io(const char* who, const std::string& path, int error) {
  fail(ErrorCode::io, std::string(who) + ": " + path + ": " + std::strerror(error));
}

}  // namespace

MappedFile map_file(const char* who, const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) fail_io(who, path, errno);
  struct stat info {};
  int error = ::fstat(file, &info) != 0 ? errno : 0;
  if (error == 0 && !S_ISREG(info.st_mode)) error = S_ISDIR(info.st_mode) ? EISDIR : EINVAL;
  const auto size = static_cast<std::size_t>(error == 0 ? info.st_size : 0);
  void* data = nullptr;
  if (error == 0 && size > 0) {
    data = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file, 0);
    if (data == MAP_FAILED) error = errno;
  }
  ::close(file);
  if (error != 0) fail_io(who, path, error);
  if (size == 0) return {};
  const std::span<const std::byte> bytes(static_cast<const std::byte*>(data), size);
  return {bytes,
          std::shared_ptr<const void>(data, [size](void* mapped) { ::munmap(mapped, size); })};
}

#else

MappedFile map_file(const char* who, const std::string& path) {
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const auto size = file ? static_cast<std::streamoff>(file.tellg()) : -1;
  auto data =
      std::make_shared<AlignedArray<std::byte> >(static_cast<std::size_t>(size > 0 ? size : 0));
  if (size > 0) {
    file.seekg(0);
    file.read(reinterpret_cast<char*>(data->data()), size);
  }
  if (!file || size < 0) {
    fail(ErrorCode::io, std::string(who) + ": " + path + " cannot be read");
  }
  return {*data, data};
}

#endif

}  // namespace kvant::detail
