#pragma once

// ggml's Q4_0 (llama.cpp) as a peer.

#include "harness/peers.hpp"

namespace kvant::bench {

/// y [m, n] = x [m, k] w [n, k]^T with w in Q4_0 (blocks of 32, symmetric), x quantized by ggml to
/// its Q8_0 in every run.
/// @param repacked  in ggml's buffer type that interleaves rows, which llama.cpp uses by default
/// @param copies    of the weights, taken in turn, so that they are cold
PeerRun ggml_q4_0(const float* w, std::int64_t m, std::int64_t n, std::int64_t k, bool repacked,
                  int threads, std::int64_t copies);

}  // namespace kvant::bench
