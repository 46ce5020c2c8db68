// The CUDA kernels for nvcc: the only translation unit it compiles.

#include "cuda/kernels.hpp"
#include "cuda/tables.hpp"

namespace kvant::detail {

constinit const KernelTable kernels_cuda = cuda_kernels<0>("cuda");
constinit const KernelTable kernels_cuda_sm80 = cuda_kernels<8>("cuda sm_80");

bool has_cuda_device() noexcept {
  int devices = 0;
  return cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0 &&
         device::properties().major >= 8;
}

}  // namespace kvant::detail
