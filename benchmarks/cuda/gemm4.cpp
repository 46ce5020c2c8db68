// Products of many rows with weights of 4 bits, against int8 products out of shared memory and
// cuBLASLt's of bfloat16.

#include <fmt/core.h>

#include <kvant/isa.hpp>

#include "cuda/ceilings.hpp"
#include "cuda/four_bits.hpp"
#include "cuda/peer_cublaslt.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  Session session(argc, argv, "gemm4");
  const double ceiling = session.multiply_ceiling();
  const std::int64_t shapes[][3] = {
      {16, 4096, 4096}, {64, 4096, 4096}, {512, 4096, 4096}, {2048, 8192, 8192}};
  for (const FourBits& what : kFourBits) {
    const auto gemm = kernels_for("cuda").gemm_for(what.format).gemm;
    for (const auto& [m, n, k] : shapes) {
      const FourBitProduct product(session, what, m, n, k);
      const std::string name = fmt::format("{} {}x{}x{}", what.name, m, n, k);
      gemm(product.args(m, 0));
      require(cudaStreamSynchronize(session.stream()), "the product");
      if (!product.is_right(m)) session.wrong(name);
      const double operations = 2.0 * static_cast<double>(m * n) * static_cast<double>(k);
      const int calls = std::max(product.copies(), 20);
      std::vector<std::function<void(int)>> entries = {[&](int i) { gemm(product.args(m, i)); }};
      const auto peer = CublasLt::create(PeerType::bf16, m, n, k);
      const auto elements = static_cast<std::size_t>(n * k);
      const int peer_copies = rotation(elements * 2);
      const DeviceBuffer w(peer == nullptr ? 16
                                           : elements * 2 * static_cast<std::size_t>(peer_copies)),
          x(static_cast<std::size_t>(m * k) * 2), y(static_cast<std::size_t>(m * n) * 2);
      if (peer != nullptr) {
        fill_bfloat16(w.data(), w.bytes() / 2, 0.02f, 5, session.stream());
        fill_bfloat16(x.data(), x.bytes() / 2, 1.0f, 6, session.stream());
        entries.emplace_back([&](int i) {
          peer->run(x.data(), w.data() + static_cast<std::size_t>(i % peer_copies) * elements * 2,
                    y.data(), session.stream());
        });
      }
      const std::vector<Timing> timings = session.time_by_turns(entries, calls);
      std::vector<std::pair<std::string, double>> peers;
      if (peer != nullptr) peers.emplace_back("cuBLASLt bf16", timings[1].us);
      session.add(name, timings[0], operations / timings[0].us * 1e-6, "TOPS", ceiling, peers);
    }
  }
  return session.finish();
}
