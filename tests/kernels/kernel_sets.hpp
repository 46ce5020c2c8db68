#pragma once

// The kernel sets under test: those that this machine runs, and the microkernel templates over the
// emulated instruction sets, which run everywhere.

#include <vector>

#include "kvant/kernel_table.hpp"

namespace kvant::test {

/// Real sets first. The scalar one is among them and is what the others are compared with. With
/// KVANT_TEST_REAL_SETS in the environment: the real ones alone.
std::vector<const KernelTable*> kernel_sets();

/// The int8 products of a set.
const GemmKernels& int8_of(const KernelTable& kernels);

}  // namespace kvant::test
