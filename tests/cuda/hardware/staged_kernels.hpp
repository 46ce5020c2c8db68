#pragma once

// The CUDA kernels behind host pointers: each call copies its arrays to the device and back, so
// that every kernel test runs on a GPU as it stands.

#include "kvant/kernel_table.hpp"

namespace kvant::test {

extern const KernelTable staged_cuda;       ///< as on this device
extern const KernelTable staged_cuda_sm80;  ///< the kernels of sm_80, on this device

/// Of the compute capability; 0 where no device is.
int device_major();

}  // namespace kvant::test
