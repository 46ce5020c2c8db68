// The kernels of AVX-512 F, BW, VL and DQ: the microkernel templates over Avx512. Compiled with its
// own flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/simd_avx512.hpp"

#include "cpu/micro/elementwise.hpp"
#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_bf16.hpp"
#include "cpu/micro/quantize_rows.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx512 = {
    .name = "avx512",
    .layout = {.nr = Avx512::kVectors * Avx512::kLanes, .kr = Avx512::kGroup, .k_pad = 64},
    .activation_format = CodeFormat::u8_offset,
    .mr = Avx512::kRows,
    .pair_limit = Avx512::kPairLimit,
    .quantize_rows = &quantize_rows<Avx512>,
    .range = &range<Avx512>,
    .quantize = &quantize<Avx512>,
    .dequantize = &dequantize<Avx512>,
    .convert = &convert<Avx512>,
    .gemm = &gemm<Avx512>,
    .gather_columns = &gather_columns<Avx512>,
    .half = half_kernels<Avx512, WidenedProduct<Avx512>>(),
};

}  // namespace kvant::detail
