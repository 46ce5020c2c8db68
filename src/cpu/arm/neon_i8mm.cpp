// NEON with smmla (ARMv8.6, and earlier ones with i8mm): the product of int8 by pairs of rows; all
// else is neon_dotprod's. Compiled with its own flags (src/cmake/isa_flags.cmake); exports one
// constant table and nothing else.

#include "cpu/arm/simd_neon.hpp"

#include "cpu/micro/gemm_pairs.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_neon_i8mm = [] {
  KernelTable table = empty_table("neon_i8mm");
  give(table, WeightFormat::int8_row, pair_kernels<NeonI8mm>());
  return table;
}();

}  // namespace kvant::detail
