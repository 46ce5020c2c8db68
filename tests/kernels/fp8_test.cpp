// fp8 weights widened by kernels: every code, in panels of every kernel set, has the value of the
// rules, bit for bit; few rows are multiplied as many are.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kernels/kernel_sets.hpp"
#include "kvant/linear.hpp"
#include "kvant/packed_weights.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {

bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

/// Every code; scales from the smallest to `largest`.
struct Fp8Weights {
  Fp8Weights(WeightFormat of, std::int64_t outputs, std::int64_t inputs, float largest)
      : format(of), n(outputs), k(inputs), codes(static_cast<std::size_t>(n * k)) {
    for (std::size_t i = 0; i < codes.size(); ++i) {
      codes[i] = static_cast<std::uint8_t>(i % 257 + i / 1000);
      if ((codes[i] & 0x7F) == 0x7F) codes[i] = 0;  // not a number, which is refused
    }
    const WeightFormatInfo& info = describe(format);
    const std::int64_t blocks = info.block == 0 ? 1 : (k + info.block - 1) / info.block;
    for (std::int64_t i = 0; i < n * blocks; ++i) {
      // Rows of a square share theirs.
      const std::int64_t of_square = i / blocks / info.block_rows * blocks + i % blocks;
      scales.push_back(of_square % 3 == 0 ? largest : of_square % 3 == 1 ? 1e-37f : 0.037f);
    }
  }

  [[nodiscard]] CodedWeights parts() const {
    return {.format = format,
            .codes = MatrixView<const std::uint8_t>(codes.data(), n, k),
            .scales = scales,
            .zero_points = {},
            .block = describe(format).block};
  }

  WeightFormat format;
  std::int64_t n, k;
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
};

/// y = x * weights^T + bias, as far as sums in float32 go.
bool is_product(const std::vector<float>& y, const std::vector<float>& x,
                const PackedWeights& weights, const std::vector<float>& bias) {
  const std::int64_t n = weights.n();
  const std::int64_t k = weights.k();
  std::vector<float> values(static_cast<std::size_t>(n * k));
  weights.dequantize(MatrixView<float>(values.data(), n, k));
  for (std::size_t at = 0; at < y.size(); ++at) {
    const auto row = static_cast<std::int64_t>(at) / n;
    const auto output = static_cast<std::int64_t>(at) % n;
    double sum = bias[static_cast<std::size_t>(output)];
    double size = std::abs(sum);
    for (std::int64_t i = 0; i < k; ++i) {
      const double product = static_cast<double>(x[static_cast<std::size_t>(row * k + i)]) *
                             values[static_cast<std::size_t>(output * k + i)];
      sum += product;
      size += std::abs(product);
    }
    if (!(std::abs(y[at] - sum) <= 1e-6 * size)) return false;
  }
  return true;
}

}  // namespace

TEST_CASE("fp8: a panel widened by a kernel has the values of the rules, every code") {
  int compared = 0;
  for (const WeightFormat format : {WeightFormat::fp8_row, WeightFormat::fp8_block}) {
    for (const auto& [n, k] :
         {std::pair<std::int64_t, std::int64_t>{130, 300}, {1, 32}, {53, 128}}) {
      const Fp8Weights weights(format, n, k, 7.5e35f);  // the largest that there is
      for (const KernelTable* kernels : kernel_sets()) {
        if (kernels->memory != nullptr) continue;  // devices do not multiply fp8
        Context context({.kernels = kernels});
        const auto packed = PackedWeights::from_codes(context, weights.parts());
        const PackedWeights::State& state = packed.state();
        if (state.kernels.widen_panel == nullptr) continue;
        std::vector<float> values(static_cast<std::size_t>(n * k));
        packed.dequantize(MatrixView<float>(values.data(), n, k));
        const std::int64_t nr = packed.layout().nr;
        std::vector<float> panel(static_cast<std::size_t>(nr * state.k_padded), -1.0f);
        GemmArgs args{};
        args.b = packed.data();
        args.scales = {packed.scales(), state.row_scales(), state.block};
        args.range.k_padded = state.k_padded;
        std::int64_t wrong = 0;
        for (std::int64_t p = 0; p < packed.panels(); ++p) {
          args.range.panel_begin = p;
          state.kernels.widen_panel(args, panel.data());
          for (std::int64_t i = 0; i < state.k_padded; ++i) {
            for (std::int64_t r = 0; r < std::min(nr, n - p * nr); ++r) {
              const float value = panel[static_cast<std::size_t>(i * nr + r)];
              const float wanted =
                  i < k ? values[static_cast<std::size_t>((p * nr + r) * k + i)] : 0.0f;
              wrong += !same(value, wanted);
            }
          }
        }
        INFO(kernels->name << " " << to_string(format) << " " << n << "x" << k);
        CHECK(wrong == 0);
        ++compared;
      }
    }
  }
  if (compared == 0) WARN("nothing compared: no set here has a kernel for it but the scalar one");
}

TEST_CASE("fp8: few rows have the bits of the same rows among many") {
  constexpr std::int64_t kMany = 9;
  int compared = 0;
  for (const WeightFormat format : {WeightFormat::fp8_row, WeightFormat::fp8_block}) {
    for (const auto& [n, k] :
         {std::pair<std::int64_t, std::int64_t>{390, 300}, {1, 33}, {53, 128}}) {
      const Fp8Weights weights(format, n, k, 3.0f);
      std::mt19937_64 generator(test_seed());
      const std::vector<float> bias = random_floats(generator, n);
      const std::vector<float> x = random_floats(generator, kMany * k);
      for (const KernelTable* kernels : kernel_sets()) {
        if (kernels->memory != nullptr || kernels->gemm_for(format).gemm == nullptr) continue;
        Context context({.kernels = kernels});
        const Linear layer = Linear::from(PackedWeights::from_codes(context, weights.parts()),
                                          MatrixView<const float>(bias.data(), 1, n));
        std::vector<float> many(static_cast<std::size_t>(kMany * n));
        layer.forward(context, MatrixView<const float>(x.data(), kMany, k),
                      MatrixView<float>(many.data(), kMany, n));
        CHECK(is_product(many, x, layer.weights(), bias));
        for (std::int64_t m = 1; m <= kernels->gemm_for(format).most_rows + 1; ++m) {
          std::vector<float> few(static_cast<std::size_t>(m * n), -1.0f);
          layer.forward(context, MatrixView<const float>(x.data(), m, k),
                        MatrixView<float>(few.data(), m, n));
          INFO(kernels->name << " " << to_string(format) << " " << m << "x" << n << "x" << k);
          CHECK(std::equal(few.begin(), few.end(), many.begin(), same));
        }
        ++compared;
      }
    }
  }
  if (compared == 0) WARN("nothing compared: no set here has a kernel for it but the scalar one");
}

}  // namespace kvant::test
