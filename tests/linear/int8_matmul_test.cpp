// int8_matmul: exact in int32, scaled in float, on every kernel set and any number of threads.

#include "kvant/int8_matmul.hpp"

#include "kvant/error.hpp"
#include "kvant/isa.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/thread_executor.hpp"

namespace kvant::test {

TEST_CASE("int8_matmul: exact, scaled, strided, threaded") {
  std::mt19937_64 generator(test_seed());
  for (const auto& [m, n, k] : {std::tuple{1, 1, 1},
                                {3, 50, 65},
                                {40, 7, 33},
                                {9, 100, 0},
                                {0, 5, 5},
                                {5, 0, 5},
                                {130, 97, 300}}) {
    const auto a = random_codes(generator, (m + 1) * (k + 3));
    const auto w = random_codes(generator, n * k);
    const MatrixView<const std::int8_t> av(a.data(), m, k, k + 3);
    std::vector<std::int32_t> want(static_cast<std::size_t>(m * n));
    for (std::int64_t i = 0; i < m; ++i) {
      for (std::int64_t j = 0; j < n; ++j) {
        for (std::int64_t l = 0; l < k; ++l) {
          want[static_cast<std::size_t>(i * n + j)] +=
              std::int32_t{av(i, l)} * w[static_cast<std::size_t>(j * k + l)];
        }
      }
    }
    const auto rows = random_floats(generator, m);
    const auto columns = random_floats(generator, n);
    const auto bias = random_floats(generator, n);
    for (const IsaInfo& isa : instruction_sets()) {
      if (!isa.available) continue;
      for (const int threads : {1, 3}) {
        Context context({.isa = isa.name, .executor = std::make_shared<ThreadExecutor>(threads)});
        const PackedMatrix packed =
            pack_codes(context, MatrixView<const std::int8_t>(w.data(), n, k));
        std::vector<std::int32_t> sums(want.size(), 7);
        int8_matmul(context, av, packed, MatrixView<std::int32_t>(sums.data(), m, n));
        INFO(isa.name << " " << m << "x" << n << "x" << k);
        CHECK((sums == want));
        std::vector<float> y(want.size());
        int8_matmul(context, av, packed, rows, columns, MatrixView<float>(y.data(), m, n),
                    MatrixView<const float>(bias.data(), 1, n));
        for (std::size_t i = 0; i < y.size(); ++i) {
          const std::size_t r = i / static_cast<std::size_t>(n);
          const std::size_t c = i % static_cast<std::size_t>(n);
          REQUIRE(y[i] == static_cast<float>(want[i]) * (rows[r] * columns[c]) + bias[c]);
        }
      }
    }
  }
}

TEST_CASE("int8_matmul: errors") {
  Context context;
  const std::vector<std::int8_t> codes(12, 1);
  std::vector<std::int32_t> y(12);
  const std::vector<float> scale(3, 1.0f);
  const PackedMatrix w = pack_codes(context, MatrixView<const std::int8_t>(codes.data(), 3, 4));
  const MatrixView<const std::int8_t> a(codes.data(), 3, 4);
  CHECK_THROWS_AS(int8_matmul(context, MatrixView<const std::int8_t>(codes.data(), 4, 3), w,
                              MatrixView<std::int32_t>(y.data(), 4, 3)),
                  Error);
  CHECK_THROWS_AS(int8_matmul(context, a, w, MatrixView<std::int32_t>(y.data(), 3, 4)), Error);
  CHECK_THROWS_AS(int8_matmul(context, a, w, MatrixView<std::int32_t>(nullptr, 3, 3)), Error);
  std::vector<float> f(9);
  CHECK_THROWS_AS(int8_matmul(context, a, w, std::span(scale).first(2), scale,
                              MatrixView<float>(f.data(), 3, 3)),
                  Error);
  CHECK_THROWS_AS(int8_matmul(context, a, w, scale, scale, MatrixView<float>(f.data(), 3, 3),
                              MatrixView<const float>(scale.data(), 1, 2)),
                  Error);
}

}  // namespace kvant::test
