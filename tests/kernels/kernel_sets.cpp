#define KVANT_UNROLL  // emulated vectors are arrays: unrolling them only makes them slow to compile
#include "kernels/kernel_sets.hpp"

#include "cpu/micro/elementwise.hpp"
#include "cpu/micro/gemm_bf16.hpp"
#include "cpu/micro/quantize_rows.hpp"
#include "kernels/emulated_cuda.hpp"
#include "kernels/emulated_simd.hpp"
#include "kvant/isa.hpp"

namespace kvant::test {
namespace {

template <class S, class P>
constexpr KernelTable emulated_table(const char* name, CodeFormat format) {
  return {.name = name,
          .layout = {.nr = S::kVectors * S::kLanes, .kr = S::kGroup, .k_pad = 64},
          .activation_format = format,
          .mr = S::kRows,
          .pair_limit = S::kPairLimit,
          .quantize_rows = &quantize_rows<S>,
          .range = &range<S>,
          .quantize = &quantize<S>,
          .dequantize = &dequantize<S>,
          .convert = &convert<S>,
          .gemm = &gemm<S>,
          .gather_columns = &gather_columns<S>,
          .half = half_kernels<S, P>()};
}

constexpr KernelTable kEmulated[] = {
    emulated_table<EmulatedAvx2, WidenedProduct<EmulatedAvx2>>("emulated avx2",
                                                               CodeFormat::u8_offset),
    emulated_table<EmulatedAvx512, WidenedProduct<EmulatedAvx512>>("emulated avx512",
                                                                   CodeFormat::u8_offset),
    emulated_table<EmulatedAvx512Vnni, PairProduct<EmulatedAvx512Vnni>>("emulated avx512vnni",
                                                                        CodeFormat::u8_offset),
};

}  // namespace

std::vector<const KernelTable*> kernel_sets() {
  std::vector<const KernelTable*> sets;
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.available) sets.push_back(&kernels_for(isa.name));
  }
  for (const KernelTable& table : kEmulated) sets.push_back(&table);
  sets.push_back(&emulated_cuda);
  return sets;
}

}  // namespace kvant::test
