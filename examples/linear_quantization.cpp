// Linear quantization by hand: two bits, zero point, absmax, and what each granularity costs and
// wins on a matrix with one loud column.

#include <kvant/fmt.hpp>
#include <kvant/linear_quantizer.hpp>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

namespace {

kvant::MatrixView<const float> row(const std::vector<float>& values) {
  return {std::span<const float>(values)};
}

void show(const char* title, const std::vector<float>& values, const kvant::QuantScheme& scheme) {
  const auto x = row(values);
  const auto params = kvant::choose_params(x, scheme);
  const auto q = kvant::quantize(x, params);
  const auto back = kvant::dequantize<float>(q);
  fmt::print("{}\n", title);
  fmt::print("  scale {:.6g}, zero point {}, codes {}..{}\n", params.scale[0],
             params.zero_point.empty() ? 0 : params.zero_point[0], scheme.lowest, scheme.highest);
  fmt::print("  x     {:>7.2f}\n", fmt::join(values, " "));
  fmt::print("  code  {:>7}\n", fmt::join(q.unpack(), " "));
  fmt::print("  back  {:>7.2f}\n", fmt::join(back.values(), " "));
  fmt::print("  {}\n\n", kvant::compare(x, back));
}

// A weight matrix with rows of different size and one column forty times louder than the rest.
kvant::Matrix<float> weights() {
  kvant::Matrix<float> w(96, 256);
  std::uint32_t state = 1;
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      float sum = 0;  // twelve uniform numbers make a near-normal one
      for (int i = 0; i < 12; ++i) {
        state = state * 1664525u + 1013904223u;
        sum += static_cast<float>(state >> 8) * 0x1p-24f - 0.5f;
      }
      const float loudness = 0.02f * (1.0f + static_cast<float>(r % 8)) * (c == 17 ? 40.0f : 1.0f);
      w(r, c) = sum * loudness;
    }
  }
  return w;
}

}  // namespace

int main() {
  show("Two bits, affine: four codes for everything", {0, 1, 2, 3}, kvant::uint2_affine);
  show("Two bits, affine, negative values too", {-1.8f, -1, -0.3f, 0, 0.1f, 0.7f, 2.3f, 3.9f},
       kvant::uint2_affine);
  show("Zero point: int8 from the whole range of values",
       {191.6f, -13.5f, 728.6f, 92.14f, 295.5f, -184, 0, 684.6f, 245.5f}, kvant::int8_affine);
  show("Absmax: int8, symmetric", {1.2f, -0.5f, -4.3f, 1.2f, -3.1f, 0.8f, 2.4f, 5.4f},
       kvant::int8_symmetric);

  const kvant::Matrix<float> w = weights();
  fmt::print("Granularity: {} x {} weights, rows of different size, one loud column\n", w.rows(),
             w.cols());
  fmt::print("  {:<15} {:<14} {:>7} {:>9} {:>10} {:>10} {:>9} {:>9}\n", "scheme", "scale per",
             "scales", "bytes", "max error", "mean error", "SQNR (dB)", "cosine");
  for (const kvant::QuantScheme& scheme :
       {kvant::int8_symmetric, kvant::int4_symmetric, kvant::uint4_affine}) {
    for (const kvant::BlockShape block :
         {kvant::per_tensor, kvant::per_row, kvant::per_column, kvant::per_group(128),
          kvant::per_group(32), kvant::per_block(32, 32)}) {
      const auto q = kvant::quantize(w, kvant::choose_params(w, scheme, block));
      const auto error = kvant::compare(w, kvant::dequantize<float>(q));
      fmt::print("  {:<15} {:<14} {:>7} {:>9} {:>10.5f} {:>10.5f} {:>9.2f} {:>9.6f}\n", scheme.name,
                 block, q.params().size(), q.memory_footprint(), error.max, error.mean,
                 error.sqnr_db, error.cosine);
    }
  }
  fmt::print(
      "\nA loud column spoils every scale it belongs to: finer blocks contain the damage.\n");
}
