#include "harness/peers.hpp"

#if KVANT_HAS_OPENBLAS
#include <cblas.h>

#include <memory>
#include <vector>
#endif

namespace kvant::bench {

#if KVANT_HAS_OPENBLAS
PeerRun openblas_sgemm(const float* x, const float* w, std::int64_t m, std::int64_t n,
                       std::int64_t k, int threads) {
  auto y = std::make_shared<std::vector<float>>(static_cast<std::size_t>(m * n));
  const auto run = [=] {
    openblas_set_num_threads(threads);
    const auto mi = static_cast<int>(m);
    const auto ni = static_cast<int>(n);
    const auto ki = static_cast<int>(k);
    if (m == 1) {
      cblas_sgemv(CblasRowMajor, CblasNoTrans, ni, ki, 1.0f, w, ki, x, 1, 0.0f, y->data(), 1);
    } else {
      cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, mi, ni, ki, 1.0f, x, ki, w, ki, 0.0f,
                  y->data(), ni);
    }
  };
  return {"openblas_f32", run, [=](std::int64_t row, std::int64_t col) {
            return (*y)[static_cast<std::size_t>(row * n + col)];
          }};
}
#else
PeerRun openblas_sgemm(const float*, const float*, std::int64_t, std::int64_t, std::int64_t, int) {
  return {"openblas_f32", {}, {}};
}
#endif

}  // namespace kvant::bench
