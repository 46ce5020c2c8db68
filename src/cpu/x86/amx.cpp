// AMX: the products of int8 and of 4 bits by squares; all else is avx512vnni's (with BF16). Compiled with its
// own flags (src/cmake/isa_flags.cmake); exports one constant table and nothing else.

#include "cpu/x86/simd_amx.hpp"

#include "cpu/micro/gemm_nibble_squares.hpp"
#include "cpu/micro/gemm_squares.hpp"
#include "cpu/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_amx = [] {
  KernelTable table = empty_table("amx");
  give(table, WeightFormat::int8_row, square_kernels<Amx>());
  give(table, WeightFormat::int4_group, nibble_square_kernels<Amx, LinearNibbles<Amx>>());
  give(table, WeightFormat::nf4, nibble_square_kernels<Amx, BookNibbles<Amx, kOwnNf4>>());
  give(table, WeightFormat::fp4, nibble_square_kernels<Amx, BookNibbles<Amx, kOwnFp4>>());
  return table;
}();

}  // namespace kvant::detail
