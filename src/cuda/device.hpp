#pragma once

// The instructions that kernels are written with: one thin function each. nvcc sees PTX; every
// other compiler sees the exact emulation of tests/cuda/emulator, so that one source of a kernel
// runs on both, and machines without a GPU test what machines with one run. (tests/cuda/hardware
// compares each function with its emulation where there is a GPU.)

#if defined(__CUDACC__)
#include "cuda/launch.hpp"
#include "cuda/ptx_sm80.hpp"
#include "cuda/ptx_sm90a.hpp"
#else
#include "cuda/emulator/emulator.hpp"
#endif

namespace kvant::device {
namespace {

/// Rows of 128 bytes of K, swizzled as the tensor copy engine writes them: what wgmma reads its
/// operands through. Sixteen bytes count one, so 32 bytes further along K is + 2.
KVANT_DEVICE std::uint64_t wgmma_operand(std::uint32_t address) {
  constexpr std::uint64_t kEightRows = 1024 >> 4;
  return (address & 0x3FFFFu) >> 4 | std::uint64_t{1} << 16 | kEightRows << 32 |
         std::uint64_t{1} << 62;
}

KVANT_DEVICE float bfloat_to_float(std::uint16_t bits) {
  return bits_float(static_cast<std::uint32_t>(bits) << 16);
}

}  // namespace
}  // namespace kvant::device
