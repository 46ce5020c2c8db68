// The epilogue: float results of every kernel set are bit-identical to the scalar set's, for every
// output type, with and without bias and outlier features, in both orders of rounding.

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/gemm_cases.hpp"
#include "kernels/kernel_sets.hpp"
#include "kvant/float_element.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {

struct EpilogueCase {
  GemmCase gemm;
  std::vector<float> row_scale{}, col_scale{}, bias{}, kept_x{}, found_x{};
  std::vector<float> kept_w{}, found_w{};  ///< [n, count]
  std::int64_t kept = 0, found = 0;
  std::vector<std::int64_t> columns{};  ///< found_w are these columns of the codes: the GEMM's own
  float factor = 1.0f;
  DType rounded_to = DType::float32;
  DType y_dtype = DType::float32;
  DType w_dtype = DType::float16;
  bool bias_first = false;
};

/// [n, count] into panels [n / nr][count][nr], stored as w_dtype.
std::vector<std::byte> panel_weights(const KernelTable& kernels, const std::vector<float>& w,
                                     std::int64_t n, std::int64_t count, DType dtype) {
  const std::int64_t nr = int8_of(kernels).layout.nr;
  const std::int64_t size = describe(dtype).bits / 8;
  std::vector<std::byte> out(
      static_cast<std::size_t>(int8_of(kernels).layout.padded_n(n) * count * size));
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t j = 0; j < count; ++j) {
      const float value = w[static_cast<std::size_t>(i * count + j)];
      std::byte* at = out.data() + ((i / nr) * count * nr + j * nr + i % nr) * size;
      if (dtype == DType::float32) {
        std::memcpy(at, &value, 4);
      } else {
        const std::uint16_t bits = dtype == DType::float16 ? detail::float_to_half_bits(value)
                                                           : detail::float_to_bfloat_bits(value);
        std::memcpy(at, &bits, 2);
      }
    }
  }
  return out;
}

std::vector<std::uint8_t> run(const KernelTable& kernels, const EpilogueCase& c) {
  const GemmCase& g = c.gemm;
  const auto packed = pack(kernels, g);
  const PackedActivations a(kernels, g, packed->k_padded);
  const std::int64_t size = describe(c.y_dtype).bits / 8;
  const std::int64_t y_stride = g.n + 3;  // a gap that must stay as it is
  const GuardedBuffer<std::uint8_t> y(
      static_cast<std::size_t>(((g.m - 1) * y_stride + g.n) * size));
  const auto padded = [&](std::vector<float> v) {
    v.resize(static_cast<std::size_t>(int8_of(kernels).layout.padded_n(g.n)), 0.0f);
    return v;
  };
  const std::vector<float> col_scale = padded(c.col_scale);
  const std::vector<float> bias = padded(c.bias);
  const auto kept_w = panel_weights(kernels, c.kept_w, g.n, c.kept, c.w_dtype);
  const auto found_w = panel_weights(kernels, c.found_w, g.n, c.found, DType::float32);
  GemmArgs args = product_of(kernels, g, a, *packed, packed->codes.data());
  args.columns = {.columns = c.columns.data(),
                  .scale = col_scale.data(),
                  .factor = c.factor,
                  .rounded_to = c.rounded_to};
  args.epilogue = {
      .y = y.data(),
      .y_dtype = c.y_dtype,
      .y_stride = y_stride,
      .row_scale = c.row_scale.data(),
      .col_scale = col_scale.data(),
      .scale = c.bias_first ? 6.200124e-05f : 1.0f,
      .bias = c.bias.empty() ? nullptr : bias.data(),
      .outliers = {.kept = {c.kept_x.data(), g.m, kept_w.data(),
                            c.kept * int8_of(kernels).layout.nr, c.w_dtype, c.kept},
                   .found = {c.found_x.data(), g.m, c.columns.empty() ? found_w.data() : nullptr,
                             c.found * int8_of(kernels).layout.nr, DType::float32, c.found}},
      .bias_first = c.bias_first};
  int8_of(kernels).gemm(args);
  if (!c.columns.empty()) {  // the same weights by themselves
    std::vector<float> gathered(found_w.size() / sizeof(float));
    const std::int64_t panels = args.range.panel_end;
    for (args.range.panel_begin = 0; args.range.panel_begin < panels; ++args.range.panel_begin) {
      args.range.panel_end = args.range.panel_begin + 1;
      int8_of(kernels).gather_columns(args, gathered.data());
    }
    const auto* want = reinterpret_cast<const float*>(found_w.data());
    for (std::int64_t i = 0; i < g.n * c.found; ++i) {
      const std::int64_t nr = int8_of(kernels).layout.nr;
      const std::int64_t at = i / c.found / nr * c.found * nr + i % c.found * nr + i / c.found % nr;
      REQUIRE(gathered[static_cast<std::size_t>(at)] == want[at]);
    }
  }
  for (std::int64_t m = 0; m + 1 < g.m; ++m) {  // the gap between the rows
    for (std::int64_t i = g.n * size; i < y_stride * size; ++i) {
      REQUIRE(y[static_cast<std::size_t>(m * y_stride * size + i)] == 0xFF);
    }
  }
  return {y.data(), y.data() + y.size()};
}

}  // namespace

TEST_CASE("epilogue: bit-identical on every kernel set") {
  std::mt19937_64 generator(test_seed());
  const auto sets = kernel_sets();
  int cases = 0;
  for (const DType y : {DType::float32, DType::float16, DType::bfloat16}) {
    for (const DType w : {DType::float16, DType::bfloat16, DType::float32}) {
      for (const bool bias_first : {false, true}) {
        for (const int variant : {0, 1, 2, 3, 4}) {
          for (const std::int64_t m : {1, 4, 11}) {
            const std::int64_t n = variant == 0 ? 100 : 47;
            const std::int64_t k = 70;
            EpilogueCase c{
                .gemm = {m, n, k, random_codes(generator, m * k), random_codes(generator, n * k)}};
            c.y_dtype = y;
            c.w_dtype = w;
            c.bias_first = bias_first;
            c.kept = variant >= 2 ? 5 : 0;
            c.found = variant == 4 ? 6 : variant >= 1 ? 3 : 0;
            c.row_scale = random_floats(generator, m, 0.02f);
            c.col_scale = random_floats(generator, n, 0.02f);
            if (variant != 3) c.bias = random_floats(generator, n);
            c.kept_x = random_floats(generator, m * c.kept, 20.0f);
            c.found_x = random_floats(generator, m * c.found, 20.0f);
            c.kept_w = random_floats(generator, n * c.kept);
            c.found_w = random_floats(generator, n * c.found);
            if (variant == 4) {
              // As they occur: few pairs beyond the limit of an instruction.
              const auto fill = [&](std::vector<std::int8_t>& codes) {
                const auto values = random_floats(generator, std::ssize(codes), 38.0f);
                std::transform(values.begin(), values.end(), codes.begin(), [](float v) {
                  return static_cast<std::int8_t>(std::clamp(v, -128.0f, 127.0f));
                });
              };
              fill(c.gemm.a);
              fill(c.gemm.b);
              c.columns = {0, 1, 3, 33, 34, k - 1};
              c.factor = bias_first ? 1.0f / 127.0f : 1.0f;
              c.rounded_to = bias_first ? y : DType::float32;
              for (std::int64_t i = 0; i < n * c.found; ++i) {
                const auto code = c.gemm.b[static_cast<std::size_t>(
                    i / c.found * k + c.columns[static_cast<std::size_t>(i % c.found)])];
                c.found_w[static_cast<std::size_t>(i)] = detail::round_to(
                    c.rounded_to, static_cast<float>(code) *
                                      c.col_scale[static_cast<std::size_t>(i / c.found)] *
                                      c.factor);
              }
            }
            if (variant == 2) {  // a NaN row, an overflow to infinity, a subnormal result
              c.row_scale[0] = std::nanf("");
              c.col_scale[1] = 1e30f;
              c.col_scale[2] = 1e-42f;
            }
            const auto want = run(*sets.front(), c);
            for (const KernelTable* kernels : sets) {
              const auto got = run(*kernels, c);
              INFO(kernels->name << " y " << to_string(y) << " w " << to_string(w) << " m " << m
                                 << " variant " << variant << " bias_first " << bias_first
                                 << " seed " << test_seed());
              if (variant == 2 && m == 1) continue;  // all NaN: whose bits are not promised
              const std::size_t skip = variant == 2 ? static_cast<std::size_t>(n) * 4 : 0;
              CHECK(std::equal(got.begin() + static_cast<std::ptrdiff_t>(skip), got.end(),
                               want.begin() + static_cast<std::ptrdiff_t>(skip)));
              ++cases;
            }
          }
        }
      }
    }
  }
  CHECK(cases > 200);
}

}  // namespace kvant::test
