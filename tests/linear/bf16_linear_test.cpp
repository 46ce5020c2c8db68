// Bf16Linear: exact on small integers, near the definition elsewhere, on every kernel set.

#include <cmath>

#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/thread_executor.hpp"

namespace kvant::test {

TEST_CASE("Bf16Linear: every kernel set, odd shapes, bias, types") {
  std::mt19937_64 generator(test_seed());
  for (const auto& [m, n, k] : {std::tuple{1, 1, 1},
                                {1, 49, 3},
                                {2, 100, 65},
                                {5, 33, 64},
                                {9, 97, 127},
                                {17, 200, 256},
                                {33, 47, 31}}) {
    std::vector<bfloat16> x;
    std::vector<bfloat16> w;
    for (const float v : random_floats(generator, m * k)) x.emplace_back(v);
    for (const float v : random_floats(generator, n * k)) w.emplace_back(v);
    const std::vector<float> bias = random_floats(generator, n);
    for (const IsaInfo& isa : instruction_sets()) {
      if (!isa.available) continue;
      INFO(isa.name << " " << m << "x" << n << "x" << k << " seed " << test_seed());
      Context context({.isa = isa.name});
      const auto layer = Bf16Linear::pack(context, MatrixView<const bfloat16>(w.data(), n, k),
                                          MatrixView<const float>(bias.data(), 1, n));
      std::vector<float> y(static_cast<std::size_t>(m * n), NAN);
      layer.forward(context, MatrixView<const bfloat16>(x.data(), m, k),
                    MatrixView<float>(y.data(), m, n));
      double worst = 0;
      for (std::int64_t i = 0; i < m; ++i) {
        for (std::int64_t j = 0; j < n; ++j) {
          double want = bias[static_cast<std::size_t>(j)];
          double magnitude = std::fabs(want);
          for (std::int64_t l = 0; l < k; ++l) {
            const double p = double{static_cast<float>(x[static_cast<std::size_t>(i * k + l)])} *
                             double{static_cast<float>(w[static_cast<std::size_t>(j * k + l)])};
            want += p;
            magnitude += std::fabs(p);
          }
          // |error| <= k * eps * sum of |terms|, the bound for any order of summation.
          const double bound = static_cast<double>(k + 1) * 0x1p-23 * magnitude;
          worst = std::max(worst, std::fabs(y[static_cast<std::size_t>(i * n + j)] - want) / bound);
        }
      }
      CHECK(worst <= 1.0);

      std::vector<float16> half(y.size());
      layer.forward(context, MatrixView<const bfloat16>(x.data(), m, k),
                    MatrixView<float16>(half.data(), m, n));
      for (std::size_t i = 0; i < y.size(); ++i) REQUIRE(half[i].bits == float16(y[i]).bits);
      // Any number of threads gives the same bits.
      Context pool({.isa = isa.name, .executor = std::make_shared<ThreadExecutor>(3)});
      std::vector<float> threaded(y.size());
      layer.forward(pool, MatrixView<const bfloat16>(x.data(), m, k),
                    MatrixView<float>(threaded.data(), m, n));
      CHECK((threaded == y));
    }
  }
}

TEST_CASE("Bf16Linear: activations are rounded to bf16, errors are clear") {
  const std::vector<float> w = {1.0f, 2.0f};
  const std::vector<float> x = {1.00390625f, 0.0f};  // halfway between two bf16 values: to even
  float y = 0;
  const auto layer = Bf16Linear::pack(MatrixView<const float>(w.data(), 1, 2));
  layer.forward(MatrixView<const float>(x.data(), 1, 2), MatrixView<float>(&y, 1, 1));
  CHECK(y == 1.0f);
  CHECK(layer.memory_footprint() >= 4);
  CHECK_THROWS_AS(
      layer.forward(MatrixView<const float>(x.data(), 2, 1), MatrixView<float>(&y, 2, 1)), Error);
  CHECK_THROWS_AS((void)Bf16Linear::pack(MatrixView<const float>(w.data(), 1, 2),
                                         MatrixView<const float>(w.data(), 1, 2)),
                  Error);
  Bf16Linear().forward(MatrixView<const float>(nullptr, 0, 0), MatrixView<float>(nullptr, 0, 0));
}

}  // namespace kvant::test
