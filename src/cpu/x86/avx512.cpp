// The kernels of AVX-512 F, BW, VL and DQ: the microkernel templates over Avx512. Compiled with its
// own flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/x86/simd_avx512.hpp"

#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx512 = make_table<Avx512>("avx512");

}  // namespace kvant::detail
