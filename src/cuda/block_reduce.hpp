#pragma once

// A value over all threads of a block, through the first words of its shared memory.

#include "cuda/device.hpp"

namespace kvant {
namespace {

/// Two barriers; the words may be used again after the call.
template <int kThreads, class Combine>
KVANT_DEVICE std::uint32_t block_reduce(std::uint32_t value, Combine combine) {
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = combine(value, device::shuffle_xor(value, lanes));
  }
  auto* const of_warps = reinterpret_cast<std::uint32_t*>(device::shared_memory());
  if (threadIdx.x % 32 == 0) of_warps[threadIdx.x / 32] = value;
  device::block_barrier();
  value = of_warps[0];
  for (int w = 1; w < kThreads / 32; ++w) value = combine(value, of_warps[w]);
  device::block_barrier();
  return value;
}

}  // namespace
}  // namespace kvant
