// AVX-512 with VNNI: the int8 products over Avx512Vnni; all else is avx512's. Compiled with its own
// flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/x86/simd_avx512.hpp"

#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx512vnni = make_integer_table<Avx512Vnni>("avx512vnni");

}  // namespace kvant::detail
