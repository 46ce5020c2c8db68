#pragma once

// Copies of host memory on the device, for tests.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <cuda_runtime.h>

namespace kvant::test {

inline void require(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(status));
  std::abort();
}

/// Waits for all that was launched.
inline void finish(const char* what) {
  require(cudaGetLastError(), what);
  require(cudaDeviceSynchronize(), what);
}

/// The device's copies of a call's arrays. Each lies at the host's address modulo 256, and ends
/// with its allocation, as near as that goes.
class Staging {
 public:
  Staging() = default;
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;
  ~Staging() {
    for (const Copy& c : copies_) cudaFree(c.base);
  }

  /// The device's copy of host[0, bytes), null for null.
  template <class T>
  T* in(T* host, std::int64_t bytes) {
    if (host == nullptr || bytes <= 0) return nullptr;
    const auto shift = reinterpret_cast<std::uintptr_t>(host) % 256;
    void* base = nullptr;
    require(cudaMalloc(&base, static_cast<std::size_t>(bytes) + shift), "cudaMalloc");
    auto* const data = static_cast<unsigned char*>(base) + shift;
    require(cudaMemcpy(data, host, static_cast<std::size_t>(bytes), cudaMemcpyHostToDevice),
            "copy");
    require(cudaStreamSynchronize(nullptr),
            "copy");  // other streams do not wait for its last bytes
    copies_.push_back({base, data, const_cast<std::remove_const_t<T>*>(host), bytes});
    return reinterpret_cast<T*>(data);
  }
  /// Copies back what in() was given.
  void out(const void* host) {
    for (const Copy& c : copies_) {
      if (c.host != host) continue;
      require(cudaMemcpy(c.host, c.data, static_cast<std::size_t>(c.bytes), cudaMemcpyDeviceToHost),
              "copy back");
    }
  }

 private:
  struct Copy {
    void* base;
    void* data;
    void* host;
    std::int64_t bytes;
  };
  std::vector<Copy> copies_;
};

}  // namespace kvant::test
