#define KVANT_UNROLL  // emulated vectors are arrays: unrolling them only makes them slow to compile
#include "kernels/kernel_sets.hpp"

#include <cstdlib>

#include "cuda/emulator/emulated_cuda.hpp"
#include "dispatch/completed.hpp"
#include "kvant/isa.hpp"
#if !KVANT_TEST_NO_EMULATION
#include "cpu/micro/gemm_nibble_squares.hpp"
#include "cpu/micro/gemm_pairs.hpp"
#include "cpu/micro/gemm_squares.hpp"
#include "cpu/micro/make_table.hpp"
#include "kernels/emulated_simd.hpp"
#include "kernels/emulated_squares.hpp"
#endif

namespace kvant::test {

#if KVANT_TEST_X86 && !KVANT_TEST_NO_EMULATION
extern const KernelTable avxvnni_by_evex;
#endif

namespace {

#if !KVANT_TEST_NO_EMULATION

/// As avx512vnni with AVX-512 BF16: products of pairs of bfloat16.
template <Simd S>
constexpr KernelTable with_bf16_pairs(KernelTable table) {
  give(table, WeightFormat::bfloat16, float_kernels<S, PairProduct<S>>());
  return table;
}

/// Of sets with a product of their own and nothing else: int8, plain codes of 4 bits, groups.
/// (Codebooks are looked up as in the sets they build on.)
template <Simd S>
constexpr KernelTable make_product_table(const char* name) noexcept {
  KernelTable table = detail::empty_table(name);
  give(table, WeightFormat::int8_row, int8_kernels<S>());
  give(table, WeightFormat::int4_group, nibble_kernels<S, LinearNibbles<S>>());
  give(table, WeightFormat::int8_group, group_kernels<S>());
  return table;
}

/// As neon_i8mm: products of pairs of rows alone.
template <SimdPairs S>
constexpr KernelTable make_pairs_table(const char* name) noexcept {
  KernelTable table = detail::empty_table(name);
  give(table, WeightFormat::int8_row, pair_kernels<S>());
  return table;
}

/// As amx: products of squares alone.
template <SimdSquares S>
constexpr KernelTable make_squares_table(const char* name) noexcept {
  KernelTable table = detail::empty_table(name);
  give(table, WeightFormat::int8_row, square_kernels<S>());
  give(table, WeightFormat::int4_group, nibble_square_kernels<S, LinearNibbles<S>>());
  give(table, WeightFormat::nf4, nibble_square_kernels<S, BookNibbles<S, kOwnNf4>>());
  return table;
}

constexpr KernelTable kEmulated[] = {
    make_table<EmulatedAvx2>("emulated avx2"),
    make_product_table<EmulatedAvxVnni>("emulated avxvnni"),
    make_table<EmulatedAvx512>("emulated avx512"),
    with_bf16_pairs<EmulatedAvx512Vnni>(make_table<EmulatedAvx512Vnni>("emulated avx512vnni")),
    make_squares_table<EmulatedAmx>("emulated amx"),
    make_table<EmulatedNeon>("emulated neon"),
    make_product_table<EmulatedNeonDotprod>("emulated neon_dotprod"),
    make_pairs_table<EmulatedNeonI8mm>("emulated neon_i8mm"),
};
#endif

}  // namespace

std::vector<const KernelTable*> kernel_sets() {
  static const std::vector<KernelTable> emulated = [] {
    std::vector<KernelTable> tables;
#if !KVANT_TEST_NO_EMULATION
    for (const KernelTable& table : kEmulated) {
      tables.push_back(detail::completed(table, kernels_for("scalar")));
    }
#endif
#if !KVANT_TEST_NO_FIBERS
    tables.push_back(detail::completed(emulated_cuda, kernels_for("scalar")));
#endif
    return tables;
  }();
  std::vector<const KernelTable*> sets;
  for (const IsaInfo& isa : instruction_sets()) {
    if (isa.available) sets.push_back(&kernels_for(isa.name));
#if KVANT_TEST_X86 && !KVANT_TEST_NO_EMULATION
    if (isa.available && isa.name == "avx512vnni") {
      static const KernelTable by_evex = detail::completed(avxvnni_by_evex, kernels_for("avx2"));
      sets.push_back(&by_evex);
    }
#endif
  }
  // Under qemu they would take most of the time, and show what they show everywhere.
  if (std::getenv("KVANT_TEST_REAL_SETS") != nullptr) return sets;
  for (const KernelTable& table : emulated) sets.push_back(&table);
  return sets;
}

const GemmKernels& int8_of(const KernelTable& kernels) {
  return kernels.gemm_for(WeightFormat::int8_row);
}

}  // namespace kvant::test
