#pragma once

// The host's side of a launch, for kernels and for the tensor maps they take. Errors are sticky, as
// in the runtime: Memory::wait tells of them.

#include <cstdint>
#include <type_traits>

#include <cudaTypedefs.h>
#include <cuda_runtime.h>

namespace kvant::device {
inline namespace hardware {  // not the emulation's functions, should both be in one program

using TensorMap = CUtensorMap;

struct Index3 {
  int x = 1, y = 1, z = 1;
};

struct Launch {
  Index3 grid = {};
  int threads = 32;
  int shared_bytes = 0;
  int cluster = 1;  ///< blocks along x that run together (sm_90)
  void* queue = nullptr;
};

struct Properties {
  int major;       ///< of the compute capability
  int processors;  ///< multiprocessors
};

/// The current device's, asked once for each.
inline Properties properties() noexcept {
  constexpr int kDevices = 64;
  static Properties known[kDevices] = {};  // the same values, whoever writes them
  int device = 0;
  if (cudaGetDevice(&device) != cudaSuccess || device >= kDevices) return {0, 1};
  Properties& p = known[device];
  if (p.processors == 0) {
    cudaDeviceGetAttribute(&p.major, cudaDevAttrComputeCapabilityMajor, device);
    cudaDeviceGetAttribute(&p.processors, cudaDevAttrMultiProcessorCount, device);
  }
  return p;
}

/// Queues a kernel. From sm_90 on it may start while the kernel in front finishes: every kernel
/// calls wait_for_previous_kernel before it touches what others write.
template <class... Arguments>
void launch(const Launch& l, void (*kernel)(Arguments...),
            const std::type_identity_t<Arguments>&... arguments) noexcept {
  if (l.shared_bytes > 48 << 10 &&
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, l.shared_bytes) !=
          cudaSuccess) {
    return;
  }
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim = {static_cast<unsigned>(l.cluster), 1, 1};
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(l.grid.x), static_cast<unsigned>(l.grid.y),
                        static_cast<unsigned>(l.grid.z));
  config.blockDim = dim3(static_cast<unsigned>(l.threads));
  config.dynamicSmemBytes = static_cast<std::size_t>(l.shared_bytes);
  config.stream = static_cast<cudaStream_t>(l.queue);
  if (properties().major >= 9) {
    config.attrs = attributes;
    config.numAttrs = 2;
  }
  static_cast<void>(cudaLaunchKernelEx(&config, kernel, arguments...));
}

/// Rows of `width` bytes, read in boxes of 128 bytes by box_height rows.
inline TensorMap tensor_map(const void* data, std::int64_t width, std::int64_t height,
                            int box_height) noexcept {
  static const auto encode = [] {
    void* entry = nullptr;
    cudaDriverEntryPointQueryResult found{};
    const cudaError_t status = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry,
                                                                12000, cudaEnableDefault, &found);
    return status == cudaSuccess ? reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(entry)
                                 : nullptr;
  }();
  TensorMap map = {};
  if (encode == nullptr) return map;
  const cuuint64_t size[2] = {static_cast<cuuint64_t>(width), static_cast<cuuint64_t>(height)};
  const cuuint64_t stride[1] = {static_cast<cuuint64_t>(width)};
  const cuuint32_t box[2] = {128, static_cast<cuuint32_t>(box_height)};
  const cuuint32_t step[2] = {1, 1};
  static_cast<void>(encode(&map, CU_TENSOR_MAP_DATA_TYPE_UINT8, 2, const_cast<void*>(data), size,
                           stride, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE,
                           CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE));
  return map;
}

}  // namespace hardware
}  // namespace kvant::device
