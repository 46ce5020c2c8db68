#include "devices.hpp"

namespace kvant::program {

std::vector<IsaInfo> device_sets() {
  return device_kernel_sets();
}

const KernelTable& device_kernels(std::string_view name) {
  return kernels_for(name);
}

}  // namespace kvant::program
