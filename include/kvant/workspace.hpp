#pragma once

/// @file
/// Workspace: scratch memory that grows and is kept, so that the hot path stops allocating after
/// the first call of a size.

#include <cstddef>

#include "kvant/config.hpp"
#include "kvant/kernels/memory.hpp"

namespace kvant {

/// Four blocks of scratch memory, on the host or on a device. Move-only.
class KVANT_API Workspace {
 public:
  static constexpr int kBlocks = 4;

  Workspace() noexcept = default;
  /// In a device's memory; null: the host's.
  explicit Workspace(const Memory* memory) noexcept : memory_(memory) {}
  ~Workspace();
  Workspace(Workspace&& other) noexcept;
  Workspace& operator=(Workspace&& other) noexcept;
  Workspace(const Workspace&) = delete;
  Workspace& operator=(const Workspace&) = delete;

  /// At least `bytes` bytes, aligned to 64, valid until the next call for the same block.
  /// @throws Error out_of_memory, invalid_argument (no such block)
  [[nodiscard]] std::byte* block(std::size_t bytes, int index = 0);
  /// Bytes held.
  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] const Memory* memory() const noexcept { return memory_; }

 private:
  struct Block {
    std::byte* data = nullptr;
    std::size_t size = 0;
  };
  void release(Block& block) noexcept;

  const Memory* memory_ = nullptr;
  Block blocks_[kBlocks];
};

}  // namespace kvant
