// The bfloat16 GEMM by vdpbf16ps, for kernel set avx512vnni on processors that have it as well.
// Compiled with its own flags (src/cmake/isa_flags.cmake); exports one constant table.

#include "cpu/simd_avx512.hpp"

#include "cpu/micro/gemm_bf16.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const HalfKernels half_kernels_avx512bf16 =
    half_kernels<Avx512Bf16, PairProduct<Avx512Bf16>>();

}  // namespace kvant::detail
