#include "io/file/file_bytes.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <utility>

#include "io/file/os_error.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
FileBytes FileBytes::map(const OpenFile& file) {
  FileBytes result;
  if (file.size() == 0) return result;
  const auto size = static_cast<std::size_t>(file.size());
  void* address = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.descriptor(), 0);
  if (address == MAP_FAILED) throw_os_error(file.path().string(), "cannot map", errno);
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
    const ssize_t count = ::read(file.descriptor(), result.data_ + done, size - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) throw_os_error(path.string(), "cannot read", errno);
    if (count == 0) break;  // it shrank in the meantime: the rest of it is judged
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
