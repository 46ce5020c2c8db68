// The product of one to eight rows with weights of 4 bits: how near to a streaming read of them.

#include <fmt/core.h>

#include <kvant/isa.hpp>

#include "cuda/four_bits.hpp"

using namespace kvant;
using namespace kvant::bench;

int main(int argc, char** argv) {
  Session session(argc, argv, "decode4");
  const std::int64_t shapes[][2] = {{4096, 4096}, {8192, 8192}, {28672, 8192}};
  for (const FourBits& what : kFourBits) {
    const auto gemm = kernels_for("cuda").gemm_for(what.format).gemm;
    for (const auto& [n, k] : shapes) {
      const FourBitProduct product(session, what, 8, n, k);
      const double read = session.read_ceiling(product.bytes());
      for (const std::int64_t m : {1, 2, 4, 8}) {
        const std::string name = fmt::format("{} M={} {}x{}", what.name, m, n, k);
        gemm(product.args(m, 0));
        require(cudaStreamSynchronize(session.stream()), "the product");
        if (!product.is_right(m)) session.wrong(name);
        const Timing timing =
            session.time([&](int i) { gemm(product.args(m, i)); }, std::max(product.copies(), 20));
        session.add(name, timing, static_cast<double>(product.bytes()) / timing.us * 1e-6, "TB/s",
                    read);
      }
    }
  }
  return session.finish();
}
