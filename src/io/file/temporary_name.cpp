#include "io/file/temporary_name.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <system_error>
#include <vector>

#include "io/file/atomic_folder.hpp"

namespace kvant::io {
namespace {

namespace fs = std::filesystem;

/// NAME.tmpPID.N of this target.
bool is_temporary_of(const fs::path& target, const std::string& name) {
  const std::string prefix = target.filename().string() + ".tmp";
  if (name.size() <= prefix.size() || name.compare(0, prefix.size(), prefix) != 0) return false;
  const std::string rest = name.substr(prefix.size());
  const std::size_t dot = rest.find('.');
  return dot != 0 && dot != std::string::npos && dot + 1 < rest.size() &&
         rest.find_first_not_of("0123456789", dot + 1) == std::string::npos &&
         rest.find_first_not_of("0123456789") == dot;
}

}  // namespace

fs::path parent_of(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path temporary_name(const fs::path& target, int attempt) {
  fs::path name = target;
  name += ".tmp" + std::to_string(::getpid()) + "." + std::to_string(attempt);
  return name;
}

TemporaryLock lock_temporary(const fs::path& path) noexcept {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return {-1, errno == ENOENT};
  if (::flock(file, LOCK_EX | LOCK_NB) != 0) {
    const bool taken = errno == EWOULDBLOCK;
    ::close(file);
    return {-1, taken};
  }
  // Somebody may have taken it for abandoned between its creation and the lock.
  struct stat opened {};
  struct stat named {};
  if (::fstat(file, &opened) != 0 || ::stat(path.c_str(), &named) != 0 ||
      opened.st_ino != named.st_ino) {
    ::close(file);
    return {-1, true};
  }
  return {file, false};
}

void remove_abandoned(const fs::path& target) {
  std::error_code error;
  std::vector<fs::path> found;
  for (fs::directory_iterator at(parent_of(target), error), end; !error && at != end;
       at.increment(error)) {
    if (is_temporary_of(target, at->path().filename().string())) found.push_back(at->path());
  }
  if (found.empty()) return;
  sync_folder(parent_of(target));  // one may be the old target after an exchange
  for (const fs::path& each : found) {
    const TemporaryLock lock = lock_temporary(each);
    if (lock.file < 0) continue;
    fs::remove_all(each, error);
    ::close(lock.file);
  }
}

}  // namespace kvant::io
