#include "kvant/io/atomic_file.hpp"

#include <fcntl.h>
#include <stdio.h>  // renameat2: POSIX and Linux names, not those of <cstdio>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "io/file/atomic_folder.hpp"
#include "io/file/os_error.hpp"
#include "io/file/temporary_name.hpp"
#include "kvant/error.hpp"

namespace kvant::io {

void AtomicFile::fail(const char* what, int code) const {
  throw_os_error(shown_, what, code);
}

AtomicFile::AtomicFile(const std::filesystem::path& path, std::string shown)
    : path_(path), shown_(shown.empty() ? path.string() : std::move(shown)) {
  std::error_code error;
  if (std::filesystem::is_symlink(path_, error)) {
    std::filesystem::path target = std::filesystem::weakly_canonical(path_, error);
    if (!error) path_ = std::move(target);
  }
  struct stat status {};
  if (::stat(path_.c_str(), &status) == 0 && !S_ISREG(status.st_mode)) {
    // Renaming over a device or a pipe would replace it by a file.
    file_ = ::open(path_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) fail("cannot write", errno);
    return;
  }
  remove_abandoned(path_);
  // O_EXCL with a counter: no race with another writer, and the usual permissions (umask).
  for (int attempt = 0; file_ < 0; ++attempt) {
    temporary_ = temporary_name(path_, attempt);
    file_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file_ >= 0) {
      const TemporaryLock lock = lock_temporary(temporary_);
      lock_ = lock.file;
      if (lock.taken_by_another) ::close(std::exchange(file_, -1));  // gone already
    } else if (errno != EEXIST || attempt == 100) {
      const int code = errno;
      temporary_.clear();
      fail("cannot write", code);
    }
  }
}

AtomicFile::~AtomicFile() {
  if (file_ >= 0) ::close(file_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  if (lock_ >= 0) ::close(lock_);
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(file_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot write", errno);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
}

void AtomicFile::close_between_writes() {
  if (temporary_.empty() || file_ < 0) return;  // not a regular file: it stays open
  if (lock_ >= 0) ::close(std::exchange(lock_, -1));
  if (::close(std::exchange(file_, -1)) != 0) fail("cannot write", errno);
}

/// The file, opened for this call alone where it is closed between writes.
class AtomicFile::Opened {
 public:
  explicit Opened(const AtomicFile& owner) : file_(owner.file_) {
    if (file_ >= 0) return;
    file_ = own_ = ::open(owner.temporary_.c_str(), O_WRONLY | O_CLOEXEC);
    if (file_ < 0) owner.fail("cannot write", errno);
  }
  ~Opened() {
    if (own_ >= 0) ::close(own_);
  }
  Opened(const Opened&) = delete;
  Opened& operator=(const Opened&) = delete;
  [[nodiscard]] int descriptor() const noexcept { return file_; }

 private:
  int file_;
  int own_ = -1;
};

void AtomicFile::write_at(std::uint64_t offset, std::span<const std::byte> bytes) {
  const Opened opened(*this);
  const std::uint64_t begin = offset;
  const std::uint64_t size = bytes.size();
  while (!bytes.empty()) {
    const ssize_t count =
        ::pwrite(opened.descriptor(), bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("cannot write", errno);
    offset += static_cast<std::uint64_t>(count);
    bytes = bytes.subspan(static_cast<std::size_t>(count));
  }
#ifdef __linux__
  constexpr std::uint64_t kWorthStarting = 256 << 10;
  if (size >= kWorthStarting) {  // a hint: errors show at commit
    ::sync_file_range(opened.descriptor(), static_cast<off_t>(begin), static_cast<off_t>(size),
                      SYNC_FILE_RANGE_WRITE);
  }
#else
  static_cast<void>(begin);
  static_cast<void>(size);
#endif
}

void AtomicFile::reserve(std::uint64_t size) {
#ifdef __linux__
  if (size == 0) return;
  while (::fallocate(file_, 0, 0, static_cast<off_t>(size)) != 0) {
    if (errno == EINTR) continue;
    if (errno == ENOSPC || errno == EFBIG || errno == EDQUOT) fail("cannot write", errno);
    return;  // a file system that cannot: writing will show
  }
#else
  static_cast<void>(size);
#endif
}

namespace {

/// Gives a file its name unless there is one. @return errno, or 0
int rename_to_new(const char* from, const char* to) noexcept {
#if defined(__linux__) && defined(RENAME_NOREPLACE)
  if (::renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return errno;
#endif
  if (::link(from, to) != 0) return errno;
  ::unlink(from);
  return 0;
}

}  // namespace

void AtomicFile::commit(Existing existing) {
  {
    const Opened opened(*this);
    if (!temporary_.empty() && ::fsync(opened.descriptor()) != 0) fail("cannot write", errno);
  }
  if (file_ >= 0 && ::close(std::exchange(file_, -1)) != 0) fail("cannot write", errno);
  if (temporary_.empty()) return;
  if (existing == Existing::keep) {
    const int code = rename_to_new(temporary_.c_str(), path_.c_str());
    if (code == EEXIST) {
      throw Error(ErrorCode::io, shown_ + ": was created by somebody else meanwhile");
    }
    if (code != 0) fail("cannot create", code);
  } else if (::rename(temporary_.c_str(), path_.c_str()) != 0) {
    fail("cannot replace", errno);
  }
  temporary_.clear();
  sync_folder(parent_of(path_));  // the new name itself is durable once its folder is
}

}  // namespace kvant::io
