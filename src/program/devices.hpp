#pragma once

// The devices that kvant run puts layers on. One source knows which there are (a test build has
// another: the emulated device).

#include <string_view>
#include <vector>

#include "kvant/isa.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::program {

/// Kernel sets of devices in this build, and whether the device is here.
[[nodiscard]] std::vector<IsaInfo> device_sets();
/// The kernels of one that is here. @throws Error unavailable
[[nodiscard]] const KernelTable& device_kernels(std::string_view name);

}  // namespace kvant::program
