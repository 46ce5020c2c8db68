#pragma once

// Pieces of one block of workspace.

#include <cstddef>
#include <cstdint>
#include <utility>

#include "kvant/workspace.hpp"

namespace kvant::detail {

/// Pieces of workspace begin at cache lines.
inline constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t align_up(std::int64_t bytes) noexcept {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

/// Hands out pieces of memory one after the other; with a null base it only measures.
class Arena {
 public:
  explicit Arena(std::byte* base) noexcept : base_(base) {}

  template <class T>
  T* take(std::int64_t count) noexcept {
    std::byte* at = base_ == nullptr ? nullptr : base_ + used_;
    used_ += align_up(count * static_cast<std::int64_t>(sizeof(T)));
    return reinterpret_cast<T*>(at);
  }
  [[nodiscard]] std::size_t used() const noexcept { return static_cast<std::size_t>(used_); }

 private:
  std::byte* base_;
  std::int64_t used_ = 0;
};

/// Calls take(arena) twice: to measure what it takes, then with a block of the workspace that
/// large.
template <class Take>
void carve(Workspace& workspace, int block, Take&& take) {
  Arena measure(nullptr);
  take(measure);
  Arena arena(workspace.block(measure.used(), block));
  take(arena);
}

}  // namespace kvant::detail
