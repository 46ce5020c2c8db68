#pragma once

// The peers behind one shape: a multiplication prepared once (weights in the peer's own layout) and
// run many times. An empty function: the peer is not built in or cannot do it on this machine.

#include <cstdint>
#include <functional>
#include <string>

namespace kvant::bench {

/// A peer's multiplication y[m, n] = x[m, k] w[n, k]^T, ready to run.
struct PeerRun {
  std::string name;
  std::function<void()> run;                           ///< empty: not here
  std::function<float(std::int64_t, std::int64_t)> y;  ///< an element of the result
};

/// Codes of int8 operands, floats of float ones; all live as long as the run.
PeerRun onednn_s8(const std::int8_t* x, const std::int8_t* w, std::int64_t m, std::int64_t n,
                  std::int64_t k, bool to_float, int threads);
PeerRun onednn_float(const float* x, const float* w, std::int64_t m, std::int64_t n, std::int64_t k,
                     bool bf16, int threads);
PeerRun openblas_sgemm(const float* x, const float* w, std::int64_t m, std::int64_t n,
                       std::int64_t k, int threads);
PeerRun eigen_float(const float* x, const float* w, std::int64_t m, std::int64_t n, std::int64_t k,
                    int threads);

}  // namespace kvant::bench
