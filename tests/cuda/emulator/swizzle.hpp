#pragma once

// The 128-byte swizzle of the tensor copy engine and of wgmma: the chunk of 16 bytes within a row
// of 128 is xored with the row's number within eight.

#include <cstdint>

namespace kvant::device::emulated {

inline std::uint32_t swizzled(std::uint32_t address) {
  return address ^ ((address >> 7 & 7u) << 4);
}

}  // namespace kvant::device::emulated
