// Low-rank adapters beside weights of any format.

#include "kvant/adapter.hpp"

#include <cmath>
#include <cstring>

#include "kvant/executor.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

constexpr std::int64_t kAdapterN = 70;
constexpr std::int64_t kAdapterK = 96;
constexpr std::int64_t kRank = 5;
constexpr float kScale = 0.75f;

struct Data {
  std::mt19937_64 generator{test_seed()};
  std::vector<float> w = random_floats(generator, kAdapterN* kAdapterK);
  std::vector<float> bias = random_floats(generator, kAdapterN);
  std::vector<float> a = random_floats(generator, kRank* kAdapterK);
  std::vector<float> b = random_floats(generator, kAdapterN* kRank);

  [[nodiscard]] Linear layer(Context& context, WeightFormat format) const {
    return Linear::quantize(context, view(w, kAdapterN, kAdapterK), format,
                            view(bias, 1, kAdapterN));
  }
  [[nodiscard]] Linear adapted(Context& context, const Linear& layer) const {
    return layer.with_adapter(context, view(a, kRank, kAdapterK), view(b, kAdapterN, kRank),
                              kScale);
  }
};

}  // namespace

TEST_CASE("adapter: y is the layer's plus scale * (x A^T) B^T, for every format") {
  Data data;
  Context context;
  for (const std::int64_t m : {1, 3, 20}) {
    const std::vector<float> x = random_floats(data.generator, m * kAdapterK);
    Matrix<double> change(m, kAdapterN);
    double largest = 0;
    for (std::int64_t r = 0; r < m; ++r) {
      for (std::int64_t n = 0; n < kAdapterN; ++n) {
        for (std::int64_t k = 0; k < kRank; ++k) {
          double inner = 0;
          for (std::int64_t c = 0; c < kAdapterK; ++c) {
            inner += static_cast<double>(x[static_cast<std::size_t>(r * kAdapterK + c)]) *
                     static_cast<double>(data.a[static_cast<std::size_t>(k * kAdapterK + c)]);
          }
          change(r, n) += static_cast<double>(kScale) * inner *
                          static_cast<double>(data.b[static_cast<std::size_t>(n * kRank + k)]);
        }
        largest = std::max(largest, std::fabs(change(r, n)));
      }
    }
    for (const WeightFormatInfo& info : weight_format_table()) {
      if (info.is_gguf()) continue;  // not made of floats here
      INFO(info.name << " " << m);
      const Linear layer = data.layer(context, info.format);
      const Linear adapted = data.adapted(context, layer);
      CHECK(adapted.adapter()->rank() == kRank);
      CHECK(layer.adapter() == nullptr);
      CHECK(adapted.weight_bytes() ==
            layer.weight_bytes() + kRank * (kAdapterK + kAdapterN) * sizeof(float));
      Matrix<float> plain(m, kAdapterN);
      Matrix<float> y(m, kAdapterN);
      layer.forward(context, view(x, m, kAdapterK), MatrixView<float>(plain));
      adapted.forward(context, view(x, m, kAdapterK), MatrixView<float>(y));
      double worst = 0;
      for (std::int64_t r = 0; r < m; ++r) {
        for (std::int64_t n = 0; n < kAdapterN; ++n) {
          worst = std::max(worst, std::fabs(static_cast<double>(y(r, n)) -
                                            static_cast<double>(plain(r, n)) - change(r, n)));
        }
      }
      CHECK(worst <= 2e-6 * largest);
      // Rounded once, with the correction in it.
      Matrix<float16> narrow(m, kAdapterN);
      adapted.forward(context, view(x, m, kAdapterK), MatrixView<float16>(narrow));
      bool same = true;
      for (std::int64_t r = 0; r < m; ++r) {
        for (std::int64_t n = 0; n < kAdapterN; ++n) {
          same = same && static_cast<float>(narrow(r, n)) ==
                             static_cast<float>(static_cast<float16>(y(r, n)));
        }
      }
      CHECK(same);
    }
  }
}

TEST_CASE("adapter: the same bits for any number of threads") {
  Data data;
  const std::int64_t m = 33;
  const std::vector<float> x = random_floats(data.generator, m * kAdapterK);
  std::vector<float> first;
  for (const int threads : {1, 2, 5}) {
    Context context({.threads = threads});
    const Linear adapted = data.adapted(context, data.layer(context, WeightFormat::int8_row));
    std::vector<float> y(static_cast<std::size_t>(m * kAdapterN));
    adapted.forward(context, view(x, m, kAdapterK), MatrixView<float>(y.data(), m, kAdapterN));
    if (first.empty()) first = y;
    CHECK(std::memcmp(first.data(), y.data(), y.size() * sizeof(float)) == 0);
  }
}

TEST_CASE("adapter: what does not fit is refused") {
  Data data;
  Context context;
  const Linear layer = data.layer(context, WeightFormat::int8_row);
  const auto code = [&](std::int64_t a_cols, std::int64_t b_rows, std::int64_t b_cols,
                        float scale) {
    return code_of([&] {
      (void)layer.with_adapter(context, view(data.a, kRank, a_cols), view(data.b, b_rows, b_cols),
                               scale);
    });
  };
  CHECK(code(kAdapterK, kAdapterN, kRank, 1.0f) == ErrorCode::ok);
  CHECK(code(kAdapterK - 1, kAdapterN, kRank, 1.0f) == ErrorCode::shape_mismatch);
  CHECK(code(kAdapterK, kAdapterN - 1, kRank, 1.0f) == ErrorCode::shape_mismatch);
  CHECK(code(kAdapterK, kAdapterN, kRank - 1, 1.0f) == ErrorCode::shape_mismatch);
  CHECK(code(kAdapterK, kAdapterN, kRank, NAN) == ErrorCode::invalid_argument);
  const Linear adapted = data.adapted(context, layer);
  QuantizedActivations activations;
  const std::vector<float> x(kAdapterK, 1.0f);
  Matrix<float> y(1, kAdapterN);
  adapted.quantize_activations(context, view(x, 1, kAdapterK), activations);
  CHECK(code_of([&] { adapted.forward(context, activations, MatrixView<float>(y)); }) ==
        ErrorCode::invalid_argument);
  CHECK_FALSE(adapted.shares_activations_with(layer));
  CHECK(code_of([&] {
          adapted.forward(context, view(x, 1, kAdapterK - 1), MatrixView<float>(y));
        }) == ErrorCode::shape_mismatch);
  Matrix<float16> wrong(1, kAdapterN - 1);
  CHECK(code_of([&] {
          adapted.forward(context, view(x, 1, kAdapterK), MatrixView<float16>(wrong));
        }) == ErrorCode::shape_mismatch);
}

}  // namespace kvant::test
