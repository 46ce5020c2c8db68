#include "kernels/emulated_cuda.hpp"

#include "cuda/kernels.hpp"

namespace kvant::test {

constinit const KernelTable emulated_cuda = cuda_kernels("emulated cuda");

}  // namespace kvant::test
