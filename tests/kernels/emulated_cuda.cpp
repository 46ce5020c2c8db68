#include "kernels/emulated_cuda.hpp"

#include "cuda/kernels.hpp"

namespace kvant::test {

constinit const KernelTable emulated_cuda = cuda_kernels<0>("emulated cuda");

}  // namespace kvant::test
