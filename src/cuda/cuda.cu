// The CUDA kernels for nvcc: the only translation unit it compiles.

#include "cuda/kernels.hpp"
#include "cuda/memory.hpp"
#include "cuda/tables.hpp"

namespace kvant::detail {

constinit const Memory cuda_memory = {.space = "cuda",
                                      .allocate = &allocate_device,
                                      .release = &release_device,
                                      .copy = &copy_device,
                                      .copy_rows = &copy_rows_on_device,
                                      .fill = &fill_device,
                                      .wait = &wait_for_device,
                                      .done = &is_done,
                                      .reaches = &reaches_device,
                                      .available = &available_on_device,
                                      .devices = &count_devices,
                                      .choose = &choose_device,
                                      .identify = &identify_device};

constinit const KernelTable kernels_cuda = cuda_kernels<0>("cuda", &cuda_memory);
constinit const KernelTable kernels_cuda_sm80 = cuda_kernels<8>("cuda sm_80", &cuda_memory);

bool has_cuda_device() noexcept {
  return count_devices() > 0 && device::properties().major >= 8;
}

}  // namespace kvant::detail
