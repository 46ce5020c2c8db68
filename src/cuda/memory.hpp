#pragma once

// The device's memory, as Memory has it (kvant/kernels/memory.hpp). Plain allocations, never
// managed ones: page faults would cost more than the copies they save.

#include <cuda_runtime.h>

#include "cuda/fill.hpp"
#include "kvant/kernels/memory.hpp"

namespace kvant {
namespace {

inline cudaStream_t stream_of(void* queue) noexcept {
  return static_cast<cudaStream_t>(queue);
}

inline void* allocate_device(std::size_t bytes) noexcept {
  void* data = nullptr;
  if (cudaMalloc(&data, bytes) == cudaSuccess) return data;
  static_cast<void>(cudaGetLastError());  // told by the null; the next wait is about other things
  return nullptr;
}

/// Waits for what uses it, as cudaFree does.
inline void release_device(void* data, std::size_t) noexcept {
  static_cast<void>(cudaFree(data));
}

/// To the device on the default queue it waits too: weights are uploaded there, and kernels of
/// other queues read them.
inline bool copy_device(void* to, const void* from, std::size_t bytes, CopyKind kind,
                        void* queue) noexcept {
  const bool to_host = kind == CopyKind::to_host;
  const cudaError_t copied = cudaMemcpyAsync(
      to, from, bytes, to_host ? cudaMemcpyDeviceToHost : cudaMemcpyHostToDevice, stream_of(queue));
  if (copied != cudaSuccess) return false;
  return (!to_host && queue != nullptr) || cudaStreamSynchronize(stream_of(queue)) == cudaSuccess;
}

inline bool copy_rows_on_device(void* to, std::size_t to_step, const void* from,
                                std::size_t from_step, std::size_t bytes, std::size_t rows,
                                void* queue) noexcept {
  return cudaMemcpy2DAsync(to, to_step, from, from_step, bytes, rows, cudaMemcpyDeviceToDevice,
                           stream_of(queue)) == cudaSuccess;
}

inline void fill_device(void* to, int byte, std::size_t bytes, void* queue) noexcept {
  launch_fill(to, byte, static_cast<std::int64_t>(bytes), queue);
}

inline const char* wait_for_device(void* queue) noexcept {
  const cudaError_t launched = cudaGetLastError();
  const cudaError_t finished = cudaStreamSynchronize(stream_of(queue));
  if (launched != cudaSuccess) return cudaGetErrorString(launched);
  return finished != cudaSuccess ? cudaGetErrorString(finished) : nullptr;
}

inline bool is_done(void* queue) noexcept {
  if (cudaPeekAtLastError() != cudaSuccess) return true;
  if (cudaStreamQuery(stream_of(queue)) != cudaErrorNotReady) return true;
  static_cast<void>(cudaGetLastError());  // "not ready" is no failure
  return false;
}

inline bool reaches_device(const void* data) noexcept {
  cudaPointerAttributes attributes{};
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    static_cast<void>(cudaGetLastError());
    return false;
  }
  return attributes.devicePointer != nullptr;
}

inline std::size_t available_on_device() noexcept {
  std::size_t available = 0, all = 0;
  if (cudaMemGetInfo(&available, &all) == cudaSuccess) return available;
  static_cast<void>(cudaGetLastError());
  return 0;
}

inline int count_devices() noexcept {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess) return devices;
  static_cast<void>(cudaGetLastError());
  return 0;
}

inline bool choose_device(int device) noexcept {
  int major = 0;
  return cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess &&
         major >= 8 && cudaSetDevice(device) == cudaSuccess;
}

inline bool identify_device(char* text, int size) noexcept {
  int device = 0;
  return cudaGetDevice(&device) == cudaSuccess &&
         cudaDeviceGetPCIBusId(text, size, device) == cudaSuccess;
}

}  // namespace
}  // namespace kvant
