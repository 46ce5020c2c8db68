#include "io/file/atomic_folder.hpp"

#include <fcntl.h>
#include <stdio.h>  // renameat2: POSIX and Linux names, not those of <cstdio>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <string>
#include <system_error>
#include <utility>

#include "io/file/checkpoint_layout.hpp"
#include "io/file/os_error.hpp"
#include "io/file/temporary_name.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

namespace fs = std::filesystem;

/// Absolute, symlinks resolved as far as the path exists, without a trailing slash.
fs::path resolve(const fs::path& path) {
  std::error_code error;
  fs::path result = fs::weakly_canonical(fs::absolute(path), error);
  if (error) result = fs::absolute(path).lexically_normal();
  if (!result.has_filename()) result = result.parent_path();
  return result;
}

enum class Exchange { done, unsupported, failed };

/// Swaps two names in one step.
Exchange exchange(const fs::path& a, const fs::path& b) {
#if defined(__linux__) && defined(RENAME_EXCHANGE)
  if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) == 0) {
    return Exchange::done;
  }
  return errno == EINVAL || errno == ENOSYS ? Exchange::unsupported : Exchange::failed;
#else
  static_cast<void>(a);
  static_cast<void>(b);
  return Exchange::unsupported;
#endif
}

}  // namespace

void sync_folder(const fs::path& path) noexcept {
  const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (folder < 0) return;
  ::fsync(folder);
  ::close(folder);
}

/// What --force may remove: an empty folder, or a checkpoint and nothing else.
void AtomicFolder::check_replaceable(const fs::path& shown) const {
  std::error_code error;
  const auto refuse = [&](const std::string& why) {
    throw Error(ErrorCode::io, shown.string() + ": is not replaced, because " + why +
                                   "; remove it yourself, or give another folder");
  };
  if (!fs::is_directory(target_, error) || fs::is_symlink(fs::symlink_status(target_, error))) {
    refuse("it is not a folder");
  }
  if (fs::is_empty(target_, error) && !error) return;
  if (!holds_checkpoint(target_)) {
    refuse("it is neither an empty folder nor one with a model.safetensors");
  }
  if (const auto strange = find_strange_file(target_, replaceable_)) {
    refuse("it holds " + in_quotes(strange->string()) + ", which is no part of a checkpoint");
  }
}

AtomicFolder::AtomicFolder(const fs::path& target, const Options& options)
    : target_(resolve(target)), force_(options.force), replaceable_(options.replaceable) {
  if (!options.source.empty()) {
    const fs::path from = resolve(options.source);
    if (from == target_ || is_inside(from, target_)) {
      throw Error(ErrorCode::invalid_argument,
                  target.string() + ": the output would replace the input " +
                      options.source.string() + "; give another folder");
    }
  }
  std::error_code error;
  const fs::path parent = parent_of(target_);
  if (!fs::is_directory(parent, error)) {
    throw Error(ErrorCode::io,
                target.string() + ": there is no folder " + parent.string() + "; create it first");
  }
  if (fs::exists(fs::symlink_status(target_, error))) {
    if (!force_) {
      throw Error(ErrorCode::io, target.string() +
                                     ": exists already; give another name, or force (--force) "
                                     "to replace it");
    }
    check_replaceable(target);
  }
  remove_abandoned(target_);
  for (int attempt = 0;; ++attempt) {
    temporary_ = temporary_name(target_, attempt);
    if (::mkdir(temporary_.c_str(), 0777) == 0) {
      const TemporaryLock lock = lock_temporary(temporary_);
      lock_ = lock.file;
      if (!lock.taken_by_another) return;
    } else if (errno != EEXIST || attempt == 100) {
      const int code = errno;
      temporary_.clear();
      throw_os_error(target.string(), "cannot create", code);
    }
  }
}

AtomicFolder::~AtomicFolder() {
  if (!temporary_.empty()) {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
  if (lock_ >= 0) ::close(lock_);
}

void AtomicFolder::commit() {
  sync_folder(temporary_);
  std::error_code error;
  if (fs::exists(fs::symlink_status(target_, error))) {
    if (!force_) {
      throw Error(ErrorCode::io, target_.string() + ": was created by somebody else meanwhile");
    }
    check_replaceable(target_);  // somebody may have put something there meanwhile
    replace_target();
  } else {
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
      throw_os_error(target_.string(), "cannot create", errno);
    }
    temporary_.clear();
  }
  sync_folder(parent_of(target_));
}

void AtomicFolder::replace_target() {
  switch (exchange(temporary_, target_)) {
    case Exchange::done: break;  // the old one has the temporary name now
    case Exchange::failed: throw_os_error(target_.string(), "cannot replace", errno);
    case Exchange::unsupported: {
      fs::path aside = target_;
      aside += ".old" + std::to_string(::getpid());
      if (::rename(target_.c_str(), aside.c_str()) != 0) {
        throw_os_error(target_.string(), "cannot move aside", errno);
      }
      if (::rename(temporary_.c_str(), target_.c_str()) != 0) {
        const int code = errno;
        const bool back = ::rename(aside.c_str(), target_.c_str()) == 0;
        throw_os_error(
            target_.string(),
            back ? "cannot replace" : "cannot replace; the old one has '.old' in its name", code);
      }
      temporary_ = aside;
      break;
    }
  }
  sync_folder(parent_of(target_));
  std::error_code ignored;  // the new one is in place; a rest of the old one is not a failure
  fs::remove_all(temporary_, ignored);
  temporary_.clear();
}

}  // namespace kvant::io
