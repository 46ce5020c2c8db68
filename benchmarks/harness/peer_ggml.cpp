#include "harness/peer_ggml.hpp"

namespace kvant::bench {

PeerRun ggml_q4_0(const float*, std::int64_t, std::int64_t, std::int64_t, bool repacked, int,
                  std::int64_t) {
  return {repacked ? "ggml_q4_0_repacked" : "ggml_q4_0", {}, {}};
}

}  // namespace kvant::bench
