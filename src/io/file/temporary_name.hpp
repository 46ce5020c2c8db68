#pragma once

// What is being written beside a target, a file or a folder: its name, NAME.tmpPID.N, and the lock
// that tells it from what a killed run left behind.

#include <filesystem>

namespace kvant::io {

/// The folder that a path is in.
std::filesystem::path parent_of(const std::filesystem::path& path);

/// The N-th name that this process tries beside a target.
std::filesystem::path temporary_name(const std::filesystem::path& target, int attempt);

/// Held (by an open descriptor) while something temporary is being filled, so that what nobody
/// holds is known to be abandoned.
struct TemporaryLock {
  int file =
      -1;  ///< to be closed; -1: the file system has no locks, nothing is ever abandoned there
  bool taken_by_another = false;
};
TemporaryLock lock_temporary(const std::filesystem::path& path) noexcept;

/// Removes what runs that were killed left beside the target: what no process has locked.
void remove_abandoned(const std::filesystem::path& target);

}  // namespace kvant::io
