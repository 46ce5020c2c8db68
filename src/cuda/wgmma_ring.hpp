#pragma once

// The ring of shared memory between a thread that feeds it through the tensor copy engine and
// warpgroups that multiply from it: stages, each with a barrier for "full" and one for "empty". A
// stage is used again and again; its barriers' phases alternate.

#include "cuda/device.hpp"

namespace kvant {
namespace {

/// The bytes of a row of operands in a stage: one row of the swizzle.
inline constexpr int kSliceBytes = 128;

template <int kStageCount, int kStageBytes>
struct Ring {
  static constexpr int kStages = kStageCount;
  static constexpr int kDataBytes = kStages * kStageBytes;
  static constexpr int kBarrierBytes = 2 * kStages * 8;

  std::uint32_t data;      ///< of the shared memory, 1024-byte aligned
  std::uint32_t barriers;  ///< full, then empty

  KVANT_DEVICE std::uint32_t stage(int use) const {
    return data + static_cast<std::uint32_t>(use % kStages * kStageBytes);
  }
  KVANT_DEVICE std::uint32_t full(int use) const {
    return barriers + static_cast<std::uint32_t>(use % kStages * 8);
  }
  KVANT_DEVICE std::uint32_t empty(int use) const { return full(use) + kStages * 8; }
  /// By one thread, before a barrier of all.
  KVANT_DEVICE void init(int arrivals_to_empty) const {
    for (int s = 0; s < kStages; ++s) {
      device::barrier_init(full(s), 1);
      device::barrier_init(empty(s), arrivals_to_empty);
    }
    device::barrier_init_fence();
  }
  KVANT_DEVICE void wait_full(int use) const { device::barrier_wait(full(use), use / kStages & 1); }
  KVANT_DEVICE void wait_empty(int use) const {
    device::barrier_wait(empty(use), (use / kStages & 1) ^ 1);
  }
};

}  // namespace
}  // namespace kvant
