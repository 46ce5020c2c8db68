// The kernels of AVX2, FMA and F16C: the microkernel templates over Avx2. Compiled with its own
// flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/x86/simd_avx2.hpp"

#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx2 = make_table<Avx2>("avx2");

}  // namespace kvant::detail
