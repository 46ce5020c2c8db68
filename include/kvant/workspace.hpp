#pragma once

/// @file
/// Workspace: scratch memory that grows and is kept, so that the hot path stops allocating after
/// the first call of a size.

#include <cstddef>

#include "kvant/aligned_array.hpp"
#include "kvant/config.hpp"

namespace kvant {

class KVANT_API Workspace {
 public:
  static constexpr int kBlocks = 3;

  /// At least `bytes` bytes, aligned to 64, valid until the next call for the same block.
  /// @throws Error out_of_memory, invalid_argument (no such block)
  [[nodiscard]] std::byte* block(std::size_t bytes, int index = 0);
  /// Bytes held.
  [[nodiscard]] std::size_t size() const noexcept;

 private:
  AlignedArray<std::byte> blocks_[kBlocks];
};

}  // namespace kvant
