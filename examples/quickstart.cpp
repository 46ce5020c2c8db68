// The first program: an int8 layer in five lines, and how far it is from float.

#include <fmt/core.h>

#include <cmath>
#include <kvant/kvant.hpp>
#include <random>
#include <vector>

int main() {
  const std::int64_t rows = 16, inputs = 768, outputs = 3072;
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> w(outputs * inputs), b(outputs), x(rows * inputs), y(rows * outputs);
  for (float& v : w) v = 0.02f * normal(generator);
  for (float& v : b) v = normal(generator);
  for (float& v : x) v = normal(generator);
  const kvant::MatrixView<const float> weights(w.data(), outputs, inputs), bias(b.data(), 1, outputs);
  const kvant::MatrixView<float> in(x.data(), rows, inputs), out(y.data(), rows, outputs);
  for (std::int64_t m = 0; m < rows; ++m) in(m, 42) *= 60.0f;  // an outlier feature

  const auto layer = kvant::Int8Linear::quantize(weights, bias);
  layer.forward(in, out);

  double error = 0, power = 0;
  for (std::int64_t m = 0; m < rows; ++m) {
    for (std::int64_t n = 0; n < outputs; ++n) {
      double exact = bias(0, n);
      for (std::int64_t k = 0; k < inputs; ++k) exact += double{in(m, k)} * weights(n, k);
      error += (out(m, n) - exact) * (out(m, n) - exact);
      power += exact * exact;
    }
  }
  fmt::print("{} x {} layer on {}: {:.1f} MB as float, {:.1f} MB as int8, relative error {:.4f}\n",
             outputs, inputs, kvant::default_context().isa(), 4e-6 * double(w.size()),
             1e-6 * double(layer.memory_footprint()), std::sqrt(error / power));
  return std::sqrt(error / power) < 0.01 ? 0 : 1;
}
