// One quantization for q, k and v: the three projections of an attention block take the same input,
// so the first half of LLM.int8() is done once. The results are the same, bit for bit.

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <vector>

#include "kvant/kvant.hpp"

namespace {

constexpr std::int64_t kTokens = 64;
constexpr std::int64_t kWidth = 1024;    // of the model
constexpr std::int64_t kKeyWidth = 256;  // grouped queries: keys and values are narrower

kvant::Linear projection(std::int64_t outputs, float phase) {
  std::vector<float> weights(static_cast<std::size_t>(outputs * kWidth));
  for (std::size_t i = 0; i < weights.size(); ++i) {
    weights[i] = 0.02f * std::sin(phase + 0.37f * static_cast<float>(i));
  }
  return kvant::Linear::quantize(kvant::MatrixView<const float>(weights.data(), outputs, kWidth),
                                 kvant::WeightFormat::int8_row);
}

template <class Function>
double milliseconds(Function&& function) {
  double best = 1e9;
  for (int i = 0; i < 20; ++i) {
    const auto start = std::chrono::steady_clock::now();
    function();
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    best = std::min(best, took.count());
  }
  return best;
}

}  // namespace

int main() {
  const kvant::Linear layers[] = {projection(kWidth, 0.0f), projection(kKeyWidth, 1.0f),
                                  projection(kKeyWidth, 2.0f)};
  std::vector<float> x(kTokens * kWidth);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::cos(0.11f * static_cast<float>(i));
  x[42] = 60.0f;  // an outlier feature
  const kvant::MatrixView<const float> input(x.data(), kTokens, kWidth);

  std::vector<float> separate(kTokens * (kWidth + 2 * kKeyWidth));
  std::vector<float> shared(separate.size());
  const auto for_each_layer = [&](std::vector<float>& y, auto&& forward) {
    float* to = y.data();
    for (const kvant::Linear& layer : layers) {
      forward(layer, kvant::MatrixView<float>(to, kTokens, layer.out_features()));
      to += kTokens * layer.out_features();
    }
  };
  kvant::Context& context = kvant::default_context();
  kvant::QuantizedActivations activations;  // keeps its memory from batch to batch

  const double three_times = milliseconds([&] {
    for_each_layer(separate, [&](const kvant::Linear& layer, kvant::AnyMatrix y) {
      layer.forward(context, input, y);
    });
  });
  const double once = milliseconds([&] {
    layers[0].quantize_activations(context, input, activations);
    for_each_layer(shared, [&](const kvant::Linear& layer, kvant::AnyMatrix y) {
      layer.forward(context, activations, y);
    });
  });

  const bool same = std::memcmp(separate.data(), shared.data(), shared.size() * sizeof(float)) == 0;
  fmt::print("q, k and v for {} tokens of {}, {} outlier feature(s)\n", kTokens, kWidth,
             activations.outlier_columns().size());
  fmt::print("  quantized three times: {:.3f} ms\n  quantized once:        {:.3f} ms\n",
             three_times, once);
  fmt::print("  results: {}\n", same ? "the same, bit for bit" : "DIFFERENT");
  return same ? 0 : 1;
}
