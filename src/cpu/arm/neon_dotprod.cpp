// NEON with sdot (ARMv8.2 and newer): the integer products over NeonDotprod; all else is neon's.
// Compiled with its own flags (src/cmake/isa_flags.cmake); exports one constant table and nothing
// else.

#include "cpu/arm/simd_neon.hpp"

#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_neon_dotprod = make_integer_table<NeonDotprod>("neon_dotprod");

}  // namespace kvant::detail
