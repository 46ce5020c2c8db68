#pragma once

// The one symbol of the CUDA translation unit, and what the registry asks of it.

#include "kvant/kernel_table.hpp"

namespace kvant::detail {

extern const KernelTable kernels_cuda;
/// The kernels of sm_80 whatever the device is: to test and measure them on a newer one.
extern const KernelTable kernels_cuda_sm80;

/// A device that the kernels run on: compute capability 8.0 or newer.
bool has_cuda_device() noexcept;

}  // namespace kvant::detail
