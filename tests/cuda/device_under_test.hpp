#pragma once

// The device that the layer tests run on: the emulated one, or a real one (tests/cuda/hardware).

#include "kvant/kernel_table.hpp"

namespace kvant::test {

/// Its kernels, which have a Memory.
const KernelTable& device_kernels();

/// How often the host has waited for the device; always 0 where nobody counts.
int times_waited();

}  // namespace kvant::test
