#pragma once

// The one symbol of each instruction set's translation unit.

#include "kvant/kernel_table.hpp"

namespace kvant::detail {

extern const KernelTable kernels_scalar;
extern const KernelTable kernels_avx2;
extern const KernelTable kernels_avx512;
extern const KernelTable kernels_avx512vnni;
extern const KernelTable kernels_avx512bf16;

}  // namespace kvant::detail
