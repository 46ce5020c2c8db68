// The program kvant on the emulated device, which it takes for one of CUDA: in place of
// src/program/devices.cpp.

#include "devices.hpp"

#include "cuda/emulator/emulated_cuda.hpp"

namespace kvant::program {

std::vector<IsaInfo> device_sets() {
  return {{"cuda", true, {}}};
}

const KernelTable& device_kernels(std::string_view) {
  return test::emulated_cuda_device;
}

}  // namespace kvant::program
