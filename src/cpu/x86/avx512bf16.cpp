// What kernel set avx512vnni has more where the processor has AVX-512 BF16 too: bfloat16 products
// by vdpbf16ps. Compiled with its own flags (src/cmake/isa_flags.cmake); exports one constant
// table.

#include "cpu/x86/simd_avx512.hpp"

#include "cpu/micro/gemm_float.hpp"
#include "cpu/micro/make_table.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx512bf16 = [] {
  KernelTable table = empty_table("avx512vnni");
  give(table, WeightFormat::bfloat16, float_kernels<Avx512Bf16, PairProduct<Avx512Bf16>>());
  return table;
}();

}  // namespace kvant::detail
