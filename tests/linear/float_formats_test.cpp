// Layers of float formats, and of formats that the kernel set does not multiply (float16: widened
// to float32 panel by panel), against sums in double.

#include "kvant/float_element.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {

TEST_CASE(
    "float formats: y is the sum of products up to fp32's rounding, for every shape and type") {
  std::mt19937_64 generator(test_seed());
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    for (const int threads : {1, 2}) {
      Context context({.isa = isa.name, .threads = threads});
      for (const WeightFormat format :
           {WeightFormat::float32, WeightFormat::float16, WeightFormat::bfloat16}) {
        const DType type = describe(format).codes;
        // bfloat16 products round their activations too.
        const DType x_type = format == WeightFormat::bfloat16 ? DType::bfloat16 : DType::float32;
        for (const auto& [m, n, k] : {std::tuple<std::int64_t, std::int64_t, std::int64_t>{1, 1, 1},
                                      {1, 50, 33},
                                      {3, 97, 257},
                                      {17, 49, 64},
                                      {9, 200, 30}}) {
          const std::vector<float> x = random_floats(generator, m * k);
          const std::vector<float> w = random_floats(generator, n * k);
          const std::vector<float> bias = random_floats(generator, n);
          const Linear layer = Linear::quantize(context, view(w, n, k), format, view(bias, 1, n));
          std::vector<float> y(static_cast<std::size_t>(m * n));
          std::vector<float16> y_half(y.size());
          layer.forward(context, view(x, m, k), MatrixView<float>(y.data(), m, n));
          layer.forward(context, view(x, m, k), MatrixView<float16>(y_half.data(), m, n));
          for (std::int64_t i = 0; i < m; ++i) {
            for (std::int64_t j = 0; j < n; ++j) {
              double want = bias[static_cast<std::size_t>(j)];
              double size = std::abs(want);
              for (std::int64_t p = 0; p < k; ++p) {
                const double product =
                    double{detail::round_to(x_type, x[static_cast<std::size_t>(i * k + p)])} *
                    detail::round_to(type, w[static_cast<std::size_t>(j * k + p)]);
                want += product;
                size += std::abs(product);
              }
              const float got = y[static_cast<std::size_t>(i * n + j)];
              INFO(isa.name << " " << to_string(format) << " " << m << "x" << n << "x" << k
                            << " at " << i << ", " << j);
              REQUIRE(std::abs(got - want) <= size * 1e-6);
              REQUIRE(static_cast<float>(y_half[static_cast<std::size_t>(i * n + j)]) ==
                      static_cast<float>(float16(got)));
            }
          }
        }
      }
    }
  }
}

TEST_CASE("float formats: threads change nothing, and no inputs give the bias") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 33;
  const std::int64_t n = 300;
  const std::int64_t k = 500;
  const std::vector<float> x = random_floats(generator, m * k);
  const std::vector<float> w = random_floats(generator, n * k);
  for (const WeightFormat format : {WeightFormat::float32, WeightFormat::float16,
                                    WeightFormat::bfloat16, WeightFormat::int8_group}) {
    std::vector<float> first;
    for (const int threads : {1, 2, 3}) {
      Context context({.threads = threads});
      std::vector<float> y(static_cast<std::size_t>(m * n));
      Linear::quantize(context, view(w, n, k), format)
          .forward(context, view(x, m, k), MatrixView<float>(y.data(), m, n));
      if (first.empty()) first = y;
      CHECK(y == first);
    }
    const std::vector<float> bias = random_floats(generator, 5);
    std::vector<float> y(10, -1.0f);
    Linear::quantize(view(w, 5, 0), format, view(bias, 1, 5))
        .forward(view(x, 2, 0), MatrixView<float>(y.data(), 2, 5));
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == bias[i % 5]);
  }
}

TEST_CASE("layers multiplied in float keep no columns apart, and say so") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t n = 20;
  const std::int64_t k = 70;
  std::vector<float> w = random_floats(generator, n * k);
  w[3] = 100.037f;
  const std::vector<std::int64_t> keep = {3, 7};
  for (const WeightFormat format : {WeightFormat::float32, WeightFormat::float16,
                                    WeightFormat::bfloat16, WeightFormat::fp8_row}) {
    INFO(to_string(format));
    const auto layer = Linear::quantize(view(w, n, k), format, {}, {.keep_columns = keep});
    CHECK(layer.kept_weights().empty());
    CHECK(layer.options().keep_columns.empty());
    CHECK(layer.weight_bytes() == layer.weights().stored_bytes());
    std::vector<float> real(w.size());
    layer.dequantize(MatrixView<float>(real.data(), n, k));
    std::vector<float> x(static_cast<std::size_t>(k));
    x[3] = 1.0f;
    std::vector<float> y(static_cast<std::size_t>(n));
    layer.forward(view(x, 1, k), MatrixView<float>(y.data(), 1, n));
    for (std::int64_t i = 0; i < n; ++i) {
      CHECK(y[static_cast<std::size_t>(i)] == real[static_cast<std::size_t>(i * k + 3)]);
    }
  }
}

}  // namespace kvant::test
