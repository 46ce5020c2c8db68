// The kernels of AVX2, FMA and F16C: the microkernel templates over Avx2. Compiled with its own
// flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/simd_avx2.hpp"

#include "cpu/micro/elementwise.hpp"
#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_bf16.hpp"
#include "cpu/micro/quantize_rows.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx2 = {
    .name = "avx2",
    .layout = {.nr = Avx2::kVectors * Avx2::kLanes, .kr = Avx2::kGroup, .k_pad = 64},
    .activation_format = CodeFormat::u8_offset,
    .mr = Avx2::kRows,
    .pair_limit = Avx2::kPairLimit,
    .quantize_rows = &quantize_rows<Avx2>,
    .range = &range<Avx2>,
    .quantize = &quantize<Avx2>,
    .dequantize = &dequantize<Avx2>,
    .convert = &convert<Avx2>,
    .gemm = &gemm<Avx2>,
    .gather_columns = &gather_columns<Avx2>,
    .half = half_kernels<Avx2, WidenedProduct<Avx2>>(),
};

}  // namespace kvant::detail
