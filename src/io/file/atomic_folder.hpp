#pragma once

// AtomicFolder: a folder that appears whole or not at all.

#include <filesystem>
#include <vector>

namespace kvant::io {

/// Files are written into a temporary folder beside the target, "NAME.tmpPID.N"; commit() renames
/// it over the target. Without commit() the temporary folder disappears. An old target is swapped
/// out by one rename where the system can exchange names, else moved aside first (and moved back
/// when the second rename fails); it is removed only after the new one is in place. After kill -9
/// the target is the old one or the new one; the temporary folder that is left goes when the next
/// one for the same target is made (a lock tells it from one that is being filled).
class AtomicFolder {
 public:
  struct Options {
    /// Replace a target that is there: only a folder that is empty, or one that holds a checkpoint
    /// and nothing else (checkpoint_layout.hpp), so that a wrong path costs nothing.
    bool force = false;
    /// Further files that such a target may hold, relative to it.
    std::vector<std::filesystem::path> replaceable = {};
    /// A folder that must not be replaced, nor lie inside the target; may be empty.
    std::filesystem::path source = {};
  };
  /// @throws Error io (exists without force, holds something else, no parent, not writable),
  ///         invalid_argument (source)
  AtomicFolder(const std::filesystem::path& target, const Options& options);
  ~AtomicFolder();
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  [[nodiscard]] const std::filesystem::path& temporary() const noexcept { return temporary_; }
  [[nodiscard]] const std::filesystem::path& target() const noexcept { return target_; }
  /// All files inside must be durable already.
  /// @throws Error io; the target is as it was then
  void commit();

 private:
  void check_replaceable(const std::filesystem::path& shown) const;
  void replace_target();

  std::filesystem::path target_;
  std::filesystem::path temporary_;
  int lock_ = -1;
  bool force_;
  std::vector<std::filesystem::path> replaceable_;
};

/// Makes the names in a folder durable; a folder that cannot be synced is not an error.
void sync_folder(const std::filesystem::path& path) noexcept;

}  // namespace kvant::io
