// The kernels of AVX-512 with VNNI: the microkernel templates over Avx512Vnni. Compiled with its
// own flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/simd_avx512.hpp"

#include "cpu/micro/elementwise.hpp"
#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_bf16.hpp"
#include "cpu/micro/quantize_rows.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_avx512vnni = {
    .name = "avx512vnni",
    .layout = {.nr = Avx512Vnni::kVectors * Avx512Vnni::kLanes,
               .kr = Avx512Vnni::kGroup,
               .k_pad = 64},
    .activation_format = CodeFormat::u8_offset,
    .mr = Avx512Vnni::kRows,
    .pair_limit = Avx512Vnni::kPairLimit,
    .quantize_rows = &quantize_rows<Avx512Vnni>,
    .range = &range<Avx512Vnni>,
    .quantize = &quantize<Avx512Vnni>,
    .dequantize = &dequantize<Avx512Vnni>,
    .convert = &convert<Avx512Vnni>,
    .gemm = &gemm<Avx512Vnni>,
    .gather_columns = &gather_columns<Avx512Vnni>,
    .half = half_kernels<Avx512Vnni, WidenedProduct<Avx512Vnni>>(),
};

}  // namespace kvant::detail
