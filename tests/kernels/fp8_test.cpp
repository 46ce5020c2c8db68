// fp8 weights widened by kernels: every code, in panels of every kernel set, has the value of the
// rules, bit for bit.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "kernels/kernel_sets.hpp"
#include "kvant/packed_weights.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/catch.hpp"

namespace kvant::test {
namespace {

bool same(float a, float b) {
  return std::bit_cast<std::uint32_t>(a) == std::bit_cast<std::uint32_t>(b);
}

}  // namespace

TEST_CASE("fp8: a panel widened by a kernel has the values of the rules, every code") {
  int compared = 0;
  for (const WeightFormat format : {WeightFormat::fp8_row, WeightFormat::fp8_block}) {
    for (const auto& [n, k] :
         {std::pair<std::int64_t, std::int64_t>{130, 300}, {1, 32}, {53, 128}}) {
      std::vector<std::uint8_t> codes(static_cast<std::size_t>(n * k));
      for (std::size_t i = 0; i < codes.size(); ++i) {
        codes[i] = static_cast<std::uint8_t>(i % 257 + i / 1000);
        if ((codes[i] & 0x7F) == 0x7F) codes[i] = 0;  // not a number, which is refused
      }
      const WeightFormatInfo& info = describe(format);
      const std::int64_t block = info.block;
      const std::int64_t blocks = block == 0 ? 1 : (k + block - 1) / block;
      std::vector<float> scales;
      for (std::int64_t i = 0; i < n * blocks; ++i) {
        // Rows of a square share theirs. The largest and the smallest that there are go along.
        const std::int64_t of = i / blocks / info.block_rows * blocks + i % blocks;
        scales.push_back(of % 3 == 0 ? 7.5e35f : of % 3 == 1 ? 1e-37f : 0.037f);
      }
      for (const KernelTable* kernels : kernel_sets()) {
        if (kernels->memory != nullptr) continue;  // devices do not multiply fp8
        Context context({.kernels = kernels});
        const auto packed = PackedWeights::from_codes(
            context, {.format = format,
                      .codes = MatrixView<const std::uint8_t>(codes.data(), n, k),
                      .scales = scales,
                      .zero_points = {},
                      .block = block});
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

}  // namespace kvant::test
