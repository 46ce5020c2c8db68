// AMX: the product of int8 by squares; all else is avx512vnni's. Compiled with its own flags
// (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/x86/simd_amx.hpp"

#include "cpu/micro/gemm_squares.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_amx = [] {
  KernelTable table = empty_table("amx");
  give(table, WeightFormat::int8_row, square_kernels<Amx>());
  return table;
}();

}  // namespace kvant::detail
