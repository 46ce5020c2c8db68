#pragma once

// The one symbol of each instruction set's translation unit, and the table that each begins with.

#include "kvant/kernel_table.hpp"

namespace kvant::detail {

namespace {

/// Nothing but a name; give a set what it has.
constexpr KernelTable empty_table(const char* name) noexcept {
  KernelTable table{};
  table.name = name;
  // By hand: in constant evaluation g++ 12 leaves elements of an array zero that nothing touches.
  for (GemmKernels& kernels : table.gemm) kernels = GemmKernels{};
  return table;
}

constexpr void give(KernelTable& table, WeightFormat format, const GemmKernels& kernels) noexcept {
  table.gemm[static_cast<int>(format)] = kernels;
}

}  // namespace

extern const KernelTable kernels_scalar;
extern const KernelTable kernels_avx2;
extern const KernelTable kernels_avxvnni;
extern const KernelTable kernels_avx512;
extern const KernelTable kernels_avx512vnni;
extern const KernelTable kernels_avx512bf16;
extern const KernelTable kernels_amx;
extern const KernelTable kernels_neon;
extern const KernelTable kernels_neon_dotprod;
extern const KernelTable kernels_neon_i8mm;

}  // namespace kvant::detail
