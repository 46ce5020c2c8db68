// The kernel tests' sets on a machine with a GPU: the scalar one, and CUDA's.

#include "kernels/kernel_sets.hpp"

#include "cuda/hardware/staged_kernels.hpp"
#include "kvant/isa.hpp"

namespace kvant::test {

std::vector<const KernelTable*> kernel_sets() {
  std::vector<const KernelTable*> sets = {&kernels_for("scalar"), &staged_cuda};
  if (device_major() >= 9) sets.push_back(&staged_cuda_sm80);
  return sets;
}

}  // namespace kvant::test
