// Products with weights of 4 bits: every kernel set against the definition, bit for bit, in every
// shape of groups, with and without zero points; and what the kernels make of packed panels.

#include <algorithm>
#include <cmath>
#include <tuple>

#include "kernels/bit_difference.hpp"
#include "kernels/kernel_sets.hpp"
#include "kvant/activations.hpp"
#include "kvant/codebook.hpp"
#include "kvant/linear.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

struct NibbleCase {
  WeightFormat format;
  std::int64_t m, n, k, block;
  bool zero_points;
};

std::string text_of(const NibbleCase& c) {
  return std::string(to_string(c.format)) + " " + std::to_string(c.m) + "x" + std::to_string(c.n) +
         "x" + std::to_string(c.k) + " blocks of " + std::to_string(c.block) +
         (c.zero_points ? " with zero points" : "");
}

/// y = x W^T by the definition (numerics.md): exact integers in a group, one fma for each.
std::vector<float> defined_product(const NibbleCase& c, const PackedWeights::State& w,
                                   const std::vector<float>& x) {
  const CodebookTable* table = table_of(describe(c.format).codebook);
  const std::int64_t scales = w.row_scales();
  std::vector<float> y;
  for (std::int64_t m = 0; m < c.m; ++m) {
    const float* row = x.data() + m * c.k;
    float absmax = 0.0f;
    for (std::int64_t k = 0; k < c.k; ++k) absmax = std::max(absmax, std::fabs(row[k]));
    std::vector<int> a;
    for (std::int64_t k = 0; k < c.k; ++k) {
      a.push_back(static_cast<int>(std::nearbyint(row[k] * (127.0f / absmax))));
    }
    for (std::int64_t n = 0; n < c.n; ++n) {
      std::vector<std::byte> codes(static_cast<std::size_t>(c.k));
      std::vector<float> scale(static_cast<std::size_t>(scales));
      std::vector<std::uint8_t> zero(static_cast<std::size_t>(scales), 8);
      w.unpack_row(n, codes.data());
      w.unpack_scales(n, scale.data(), zero.data());
      const std::int64_t phase = table != nullptr ? n * c.k % c.block : 0;
      float sum = 0.0f;
      for (std::int64_t first = 0; first < c.k; first += w.group) {
        const auto block = static_cast<std::size_t>((phase + first) / c.block);
        std::int64_t group = 0;
        for (std::int64_t k = first; k < std::min(c.k, first + w.group); ++k) {
          const auto code = std::to_integer<std::size_t>(codes[static_cast<std::size_t>(k)]);
          const int q = table != nullptr ? table->integer[code] - table->zero
                                         : static_cast<int>(code) - zero[block];
          group += std::int64_t{q} * a[static_cast<std::size_t>(k)];
        }
        const float factor = table != nullptr ? scale[block] * table->inverse_unit : scale[block];
        sum = std::fma(static_cast<float>(group), factor, sum);
      }
      y.push_back(sum * (absmax / 127.0f));
    }
  }
  return y;
}

void check_case(const NibbleCase& c) {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, c.n * c.k, 0.05f);
  const std::vector<float> x = random_floats(generator, c.m * c.k);
  std::vector<float> want;
  for (const KernelTable* kernels : kernel_sets()) {
    Context context({.kernels = kernels});
    const auto packed = PackedWeights::quantize(context, view(w, c.n, c.k), c.format,
                                                {.block = c.block, .zero_points = c.zero_points});
    const Linear layer = Linear::from(packed, {}, {.threshold = 0.0f});
    std::vector<float> y(static_cast<std::size_t>(c.m * c.n), -1.0f);
    layer.forward(context, view(x, c.m, c.k), MatrixView<float>(y.data(), c.m, c.n));
    if (want.empty()) want = defined_product(c, packed.state(), x);
    const std::string different = difference(y, want);
    INFO(kernels->name << " " << text_of(c) << ": " << different);
    CHECK(different.empty());
  }
}

}  // namespace

TEST_CASE("nibbles: every kernel set equals the definition, rows and outputs at the tiles' edges") {
  for (const std::int64_t m : {1, 2, 3, 4, 5, 6, 7, 8, 9, 13}) {
    for (const std::int64_t n : {1, 16, 49, 193}) {
      check_case({WeightFormat::int4_group, m, n, 192, 64, false});
      check_case({WeightFormat::int4_group, m, n, 160, 32, true});
      check_case({WeightFormat::nf4, m, n, 128, 64, false});
    }
  }
}

TEST_CASE("nibbles: groups of every kind: short last ones, one for the row, across rows") {
  for (const std::int64_t m : {1, 7, 35}) {
    for (const bool zero_points : {false, true}) {
      for (const auto& [k, block] : {std::pair<std::int64_t, std::int64_t>{1, 32},
                                     {31, 32},
                                     {64, 32},
                                     {100, 64},
                                     {129, 128},
                                     {300, 96},
                                     {770, 128},
                                     {770, 1024},
                                     {4096, 4096}}) {
        check_case({WeightFormat::int4_group, m, 50, k, block, zero_points});
      }
    }
    for (const WeightFormat format : {WeightFormat::nf4, WeightFormat::fp4}) {
      for (const auto& [k, block] : {std::pair<std::int64_t, std::int64_t>{64, 64},
                                     {32, 64},
                                     {96, 64},
                                     {192, 128},
                                     {576, 4096},
                                     {2048, 256}}) {
        check_case({format, m, 50, k, block, false});
      }
    }
  }
}

TEST_CASE("nibbles: many rows, by chunks of K where a set has them") {
  check_case({WeightFormat::int4_group, 290, 35, 1152, 128, true});
  check_case({WeightFormat::int4_group, 65, 33, 1100, 96, false});
  check_case({WeightFormat::int4_group, 70, 17, 8400, 32, false});
  check_case({WeightFormat::nf4, 97, 33, 640, 64, false});
}

TEST_CASE("nibbles: the largest sums of a group stay exact") {
  // Every activation 127 or -127, every code at an end: what 16-bit sums must just hold.
  const std::int64_t k = 256;
  for (const bool zero_points : {false, true}) {
    for (const float low : {-8.0f, 0.0f, -15.0f}) {
      std::vector<float> w;
      std::vector<float> x;
      for (std::int64_t n = 0; n < 20; ++n) {
        for (std::int64_t i = 0; i < k; ++i) w.push_back(n % 2 == 0 ? low : low + 15.0f);
        w[static_cast<std::size_t>(n * k)] = low;
        w[static_cast<std::size_t>(n * k + 1)] = low + 15.0f;
      }
      for (std::int64_t m = 0; m < 4; ++m) {
        for (std::int64_t i = 0; i < k; ++i) {
          x.push_back(m == 0 || (m == 1 && i % 4 < 2) || (m == 2 && i % 8 < 4) ? 1.0f : -1.0f);
        }
      }
      NibbleCase c{WeightFormat::int4_group, 4, 20, k, 64, zero_points};
      std::vector<float> want;
      for (const KernelTable* kernels : kernel_sets()) {
        Context context({.kernels = kernels});
        const auto packed = PackedWeights::quantize(context, view(w, c.n, k), c.format,
                                                    {.block = c.block, .zero_points = zero_points});
        std::vector<float> y(static_cast<std::size_t>(c.m * c.n));
        Linear::from(packed, {}, {.threshold = 0.0f})
            .forward(context, view(x, c.m, k), MatrixView<float>(y.data(), c.m, c.n));
        if (want.empty()) want = defined_product(c, packed.state(), x);
        const std::string different = difference(y, want);
        INFO(kernels->name << " from " << low << " zero points " << zero_points << ": "
                           << different);
        CHECK(different.empty());
      }
    }
  }
}

TEST_CASE("nibbles: with outliers, kept columns and a bias every kernel set gives the same bits") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t n = 70;
  const std::int64_t k = 224;
  const std::vector<float> w = random_floats(generator, n * k, 0.05f);
  const std::vector<float> bias = random_floats(generator, n);
  const std::vector<std::int64_t> keep = {3, 200};
  for (const auto& [format, block] : {std::pair{WeightFormat::int4_group, std::int64_t{32}},
                                      {WeightFormat::int4_group, std::int64_t{96}},
                                      {WeightFormat::nf4, std::int64_t{64}},
                                      {WeightFormat::fp4, std::int64_t{128}}}) {
    for (const std::int64_t m : {1, 9}) {
      std::vector<float> x = random_floats(generator, m * k);
      for (const std::int64_t column : {3, 17, 100, 223}) {
        x[static_cast<std::size_t>((m - 1) * k + column)] = 20.0f;
      }
      for (const ActivationOptions& options :
           {ActivationOptions{}, ActivationOptions{.outliers = Outliers::per_row},
            ActivationOptions{.keep_columns = keep},
            ActivationOptions{.outliers = Outliers::calibrated, .keep_columns = keep},
            ActivationOptions{.activation_scale = ActivationScale::per_tensor}}) {
        std::vector<float> want;
        std::vector<float> exact(static_cast<std::size_t>(m * n));
        for (const KernelTable* kernels : kernel_sets()) {
          Context context({.kernels = kernels});
          const auto packed =
              PackedWeights::quantize(context, view(w, n, k), format, {.block = block});
          std::vector<float> kept;
          for (std::int64_t r = 0; r < n; ++r) {
            for (const std::int64_t column : options.keep_columns) {
              kept.push_back(w[static_cast<std::size_t>(r * k + column)]);
            }
          }
          const auto kept_columns = static_cast<std::int64_t>(options.keep_columns.size());
          const ConstAnyMatrix kept_view =
              kept.empty() ? ConstAnyMatrix() : view(kept, n, kept_columns);
          const Linear layer = Linear::from(packed, view(bias, 1, n), options, kept_view);
          std::vector<float> y(static_cast<std::size_t>(m * n));
          layer.forward(context, view(x, m, k), MatrixView<float>(y.data(), m, n));
          if (want.empty()) {
            want = y;
            ActivationOptions in_float = options;
            in_float.arithmetic = Arithmetic::exact;
            in_float.keep_columns = {};
            Linear::from(packed, view(bias, 1, n), in_float)
                .forward(context, view(x, m, k), MatrixView<float>(exact.data(), m, n));
          }
          const std::string different = difference(y, want);
          INFO(kernels->name << " " << to_string(format) << " m " << m << ": " << different);
          CHECK(different.empty());
          // Kept columns have their own weights, which are not those of the codes.
          float worst = 0.0f;
          for (std::size_t i = 0; i < y.size(); ++i) {
            worst = std::max(worst, std::fabs(y[i] - exact[i]));
          }
          CHECK(worst < (options.keep_columns.empty() ? 0.08f : 0.6f));
        }
      }
    }
  }
}

TEST_CASE("nibbles: a panel widened by a kernel has the values of the rules, bit for bit") {
  std::mt19937_64 generator(test_seed());
  for (const auto& [format, n, k, block] :
       {std::tuple{WeightFormat::int4_group, std::int64_t{50}, std::int64_t{300}, std::int64_t{96}},
        {WeightFormat::int4_group, std::int64_t{16}, std::int64_t{128}, std::int64_t{32}},
        {WeightFormat::nf4, std::int64_t{49}, std::int64_t{96}, std::int64_t{64}},
        {WeightFormat::fp4, std::int64_t{33}, std::int64_t{576}, std::int64_t{4096}}}) {
    const std::vector<float> w = random_floats(generator, n * k);
    for (const KernelTable* kernels : kernel_sets()) {
      Context context({.kernels = kernels});
      const auto packed = PackedWeights::quantize(context, view(w, n, k), format, {.block = block});
      const PackedWeights::State& state = packed.state();
      std::vector<float> values(static_cast<std::size_t>(n * k));
      packed.dequantize(MatrixView<float>(values.data(), n, k));
      const std::int64_t nr = packed.layout().nr;
      std::vector<float> panel(static_cast<std::size_t>(nr * state.k_padded), -1.0f);
      GemmArgs args{};
      args.b = packed.data();
      args.nibbles = state.nibbles();
      args.range.k_padded = state.k_padded;
      bool same = true;
      for (std::int64_t p = 0; p < packed.panels(); ++p) {
        args.range.panel_begin = p;
        kernels->gemm_for(format).widen_panel(args, panel.data());
        for (std::int64_t r = 0; r < std::min(nr, n - p * nr); ++r) {
          for (std::int64_t i = 0; i < k; ++i) {
            same = same && panel[static_cast<std::size_t>(i * nr + r)] ==
                               values[static_cast<std::size_t>((p * nr + r) * k + i)];
          }
        }
      }
      INFO(kernels->name << " " << to_string(format));
      CHECK(same);
    }
  }
}

TEST_CASE("sum_codes: pairs and running sums, of 32 and 16 codes, of every block of rows") {
  for (const KernelTable* kernels : kernel_sets()) {
    std::mt19937_64 generator(test_seed());
    for (const std::int64_t m : {1, 5, 6, 8, 13, 17}) {
      const std::int64_t k = 192;
      // (A set's products of 4 bits may want no sums, and have larger blocks.)
      const std::int32_t mr = std::min(kernels->gemm_for(WeightFormat::int4_group).mr,
                                       kernels->gemm_for(WeightFormat::int8_group).mr);
      const RowBlocks blocks{m, mr};
      std::vector<std::int8_t> codes = random_codes(generator, m * k + kActivationSlack, -127);
      for (const ActivationSums kind :
           {ActivationSums::pairs, ActivationSums::running, ActivationSums::running16}) {
        std::vector<std::int32_t> sums(static_cast<std::size_t>(m * sums_of_row(k, kind) + 1), -7);
        kernels->sum_codes({codes.data(), blocks, 0, blocks.count(), k, kind, sums.data()});
        CHECK(sums.back() == -7);
        const std::int64_t length = codes_of_part(kind);
        bool right = true;
        for (std::int64_t b = 0; b < blocks.count(); ++b) {
          const std::int32_t rows = blocks.rows(b);
          for (std::int32_t r = 0; r < rows; ++r) {
            std::int32_t running = 0;
            for (std::int64_t part = 0; part <= k / length; ++part) {
              std::int32_t halves[2] = {0, 0};
              for (std::int64_t i = length * part; part < k / length && i < length * (part + 1);
                   ++i) {
                halves[i % 4 / 2] += codes[static_cast<std::size_t>(blocks.first(b) * k +
                                                                    blocks.offset(rows, r, i))];
              }
              const std::int32_t got = sums[static_cast<std::size_t>(
                  blocks.first(b) * sums_of_row(k, kind) + part * rows + r)];
              right = right && (kind == ActivationSums::pairs
                                    ? static_cast<std::int16_t>(got & 0xFFFF) == halves[0] &&
                                          got >> 16 == halves[1]
                                    : got == running);
              running += halves[0] + halves[1];
            }
          }
        }
        INFO(kernels->name << " m " << m);
        CHECK(right);
      }
    }
  }
}

}  // namespace kvant::test
