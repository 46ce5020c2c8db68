#pragma once

// The CUDA kernels on the emulated device (tests/cuda/emulator) as kernel sets.

#include <atomic>
#include <cstddef>

#include "kvant/kernel_table.hpp"

namespace kvant::test {

/// On the host's memory, among the sets of kernel_sets(); as on a device of sm_90a.
extern const KernelTable emulated_cuda;

/// With a memory of its own, for Context({.kernels = &emulated_cuda_device}).
extern const KernelTable emulated_cuda_device;

/// The device's memory: what tests set and count.
struct EmulatedMemory {
  std::size_t limit = std::size_t{1} << 32;
  std::size_t used = 0;
  std::atomic<int> waits = 0;  ///< how often the host waited
};
extern EmulatedMemory emulated_memory;

/// A block of it, with a copy of the host's bytes (null: none).
class DeviceCopy {
 public:
  DeviceCopy(const void* host, std::size_t bytes);
  ~DeviceCopy();
  DeviceCopy(const DeviceCopy&) = delete;
  DeviceCopy& operator=(const DeviceCopy&) = delete;
  [[nodiscard]] std::byte* data() const noexcept { return data_; }

 private:
  std::byte* data_;
  std::size_t bytes_;
};

}  // namespace kvant::test
