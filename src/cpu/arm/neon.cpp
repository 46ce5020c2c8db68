// The kernels of ARMv8.0's NEON: the microkernel templates over Neon. Compiled with its own flags
// (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/arm/simd_neon.hpp"

#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_neon = make_table<Neon>("neon");

}  // namespace kvant::detail
