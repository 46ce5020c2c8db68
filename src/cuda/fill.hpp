#pragma once

// Bytes of one value: a kernel, since a memset of the runtime's would stand between two kernels
// that may otherwise overlap (3 us a call, measured on an H200).

#include "cuda/elementwise.hpp"

namespace kvant {
namespace {

/// @param words  that many of 16 bytes at data, then `rest` bytes
KVANT_KERNEL(kElementThreads, 4)
fill_kernel(unsigned char* data, std::int64_t words, int rest, std::uint32_t value) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  for (std::int64_t i = first_element(); i < words; i += element_step()) {
    *reinterpret_cast<device::Words4*>(data + i * 16) = {{value, value, value, value}};
  }
  if (blockIdx.x == 0 && static_cast<int>(threadIdx.x) < rest) {
    data[words * 16 + threadIdx.x] = static_cast<unsigned char>(value);
  }
}

/// @param data  aligned to 16 bytes
inline void launch_fill(void* data, int byte, std::int64_t bytes, void* queue) {
  const std::uint32_t value = (static_cast<std::uint32_t>(byte) & 0xFFu) * 0x01010101u;
  device::launch(element_launch(bytes / 16, queue), &fill_kernel, static_cast<unsigned char*>(data),
                 bytes / 16, static_cast<int>(bytes % 16), value);
}

}  // namespace
}  // namespace kvant
