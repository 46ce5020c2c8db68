#pragma once

/// @file
/// Which kernel sets this build has and this machine runs.

#include <string_view>
#include <vector>

#include "kvant/config.hpp"

namespace kvant {

struct KernelTable;

/// A kernel set of this build.
struct IsaInfo {
  std::string_view name;
  bool available = false;    ///< CPUID has it and the operating system saves its registers
  std::string_view missing;  ///< the first feature that is not there; empty when available
};

/// All kernel sets of this build that work on the host's data, the plainest first. (To know whether
/// "amx" runs, Linux is asked for its registers, as when it is chosen; a process that has them can
/// no longer install an alternate signal stack of less than some 12 KiB.)
[[nodiscard]] KVANT_API std::vector<IsaInfo> instruction_sets();

/// Kernel sets of devices ("cuda"), whose data lives in a device's memory (kernels/memory.hpp);
/// empty where none is built. They are never chosen by themselves: name one in ContextOptions::isa.
[[nodiscard]] KVANT_API std::vector<IsaInfo> device_kernel_sets();

/// The kernels by name; an empty name takes KVANT_ISA, else the best one.
/// @throws Error unavailable: unknown or not runnable here; the message lists what there is.
[[nodiscard]] KVANT_API const KernelTable& kernels_for(std::string_view name = {});

}  // namespace kvant
