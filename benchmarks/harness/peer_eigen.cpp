#include <Eigen/Core>
#include <cstdlib>
#include <memory>
#include <string_view>

#include "harness/peers.hpp"

namespace kvant::bench {

PeerRun eigen_float(const float* x, const float* w, std::int64_t m, std::int64_t n, std::int64_t k,
                    int threads) {
#ifdef __AVX512F__
  // Compiled for this machine; held to AVX2 it would need a build of its own.
  const char* isa = std::getenv("KVANT_ISA");
  if (isa != nullptr && std::string_view(isa) == "avx2") return {"eigen_f32", {}, {}};
#endif
  using RowMajor = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
  using View = Eigen::Map<const RowMajor>;
  auto y = std::make_shared<RowMajor>(m, n);
  const auto run = [=] {
    Eigen::setNbThreads(threads);
    y->noalias() = View(x, m, k) * View(w, n, k).transpose();
  };
  return {"eigen_f32", run, [=](std::int64_t row, std::int64_t col) { return (*y)(row, col); }};
}

}  // namespace kvant::bench
