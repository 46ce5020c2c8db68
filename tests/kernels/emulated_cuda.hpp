#pragma once

// The CUDA kernels on the emulated device (tests/cuda/emulator) as kernel sets.

#include "kvant/kernel_table.hpp"

namespace kvant::test {

/// As on a device of sm_90a; cuda_test.cpp runs those of sm_80 too.
extern const KernelTable emulated_cuda;

}  // namespace kvant::test
