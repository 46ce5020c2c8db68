// The kernel tests' sets on a machine with a GPU: the scalar one, and CUDA's.

#include "kernels/kernel_sets.hpp"

#include "cuda/hardware/staged_kernels.hpp"
#include "dispatch/completed.hpp"
#include "kvant/isa.hpp"

namespace kvant::test {

std::vector<const KernelTable*> kernel_sets() {
  static const KernelTable tables[] = {detail::completed(staged_cuda, kernels_for("scalar")),
                                       detail::completed(staged_cuda_sm80, kernels_for("scalar"))};
  std::vector<const KernelTable*> sets = {&kernels_for("scalar"), &tables[0]};
  if (device_major() >= 9) sets.push_back(&tables[1]);
  return sets;
}

const GemmKernels& int8_of(const KernelTable& kernels) {
  return kernels.gemm_for(WeightFormat::int8_row);
}

}  // namespace kvant::test
