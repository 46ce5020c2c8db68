// AVX2 with AVX-VNNI (desktop processors since 2021): the integer products over AvxVnni; all else
// is avx2's. Compiled with its own flags (src/cmake/isa_flags.cmake); exports one constant table
// and nothing else.

#include "cpu/x86/simd_avxvnni.hpp"

#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avxvnni = make_integer_table<AvxVnni>("avxvnni");

}  // namespace kvant::detail
