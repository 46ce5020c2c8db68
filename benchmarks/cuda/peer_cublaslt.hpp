#pragma once

// cuBLASLt, where it is installed: what a framework would call for the same product.

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>

namespace kvant::bench {

enum class PeerType { bf16, int8 };  ///< bf16 gives bf16; int8 gives int32

/// y[m, n] = x[m, k] w[n, k]^T, with the algorithm that its heuristic names first.
class CublasLt {
 public:
  /// Null where it was not built in, or does not take the shape.
  static std::unique_ptr<CublasLt> create(PeerType type, std::int64_t m, std::int64_t n,
                                          std::int64_t k);
  virtual ~CublasLt() = default;
  virtual void run(const void* x, const void* w, void* y, cudaStream_t stream) = 0;
};

}  // namespace kvant::bench
