// fp8, mxfp4, int3 and int2: codes, scales and values as other libraries make them
// (tests/data/weight_formats), what PackedWeights does with them, and layers on each.

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "kvant/float8.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/linear.hpp"
#include "kvant/packed_weights.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

const io::SafeTensors& golden() {
  static const io::SafeTensors file(data_path("weight_formats/formats.safetensors"));
  return file;
}

std::vector<float> unpacked_values(const PackedWeights& w) {
  std::vector<float> values(static_cast<std::size_t>(w.n() * w.k()));
  w.dequantize(MatrixView<float>(values.data(), w.n(), w.k()));
  return values;
}

struct Unpacked {
  std::vector<std::uint8_t> codes;
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  std::vector<float> values;
};

Unpacked unpacked(const PackedWeights& w) {
  Unpacked all;
  all.codes.resize(static_cast<std::size_t>(w.n() * w.k()));
  w.unpack_rows(0, MatrixView<std::uint8_t>(all.codes.data(), w.n(), w.k()));
  all.values = unpacked_values(w);
  std::vector<float> scales;
  std::vector<std::uint8_t> zeros;
  for (std::int64_t n = 0; n < w.n(); ++n) {
    w.unpack_scales(n, scales, zeros);
    all.scales.insert(all.scales.end(), scales.begin(), scales.end());
    all.zeros.insert(all.zeros.end(), zeros.begin(), zeros.end());
  }
  return all;
}

/// The same weights from their codes, and through a file.
void check_same(const PackedWeights& w, const Unpacked& all) {
  Context context;
  const auto again = PackedWeights::from_codes(
      context, {.format = w.format(),
                .codes = MatrixView<const std::uint8_t>(all.codes.data(), w.n(), w.k()),
                .scales = all.scales,
                .zero_points = all.zeros,
                .block = w.block()});
  const Unpacked other = unpacked(again);
  CHECK(other.codes == all.codes);
  CHECK(other.scales == all.scales);
  CHECK(other.zeros == all.zeros);
  CHECK(other.values == all.values);
}

}  // namespace

TEST_CASE("fp8: codes of torch's cast, one scale an output, for the weight, or for a square") {
  struct Case {
    const char* name;
    const char* weight;
    std::int64_t n, k;
    WeightFormat format;
    bool one_scale;
  };
  for (const Case& c : {Case{"row", "w", 40, 192, WeightFormat::fp8_row, false},
                        Case{"tensor", "w", 40, 192, WeightFormat::fp8_row, true},
                        Case{"block", "square_w", 140, 150, WeightFormat::fp8_block, false}}) {
    INFO(c.name);
    const auto w = golden().values<float>(c.weight);
    const auto packed =
        PackedWeights::quantize(view(w, c.n, c.k), c.format, {.one_scale = c.one_scale});
    const Unpacked all = unpacked(packed);
    const std::string name = std::string("fp8.") + c.name;
    CHECK(all.codes == golden().values<std::uint8_t>(name + ".codes"));
    CHECK(all.values == golden().values<float>(name + ".values"));
    check_same(packed, all);
    const std::int64_t scales = c.format == WeightFormat::fp8_block ? 4 : 40;
    CHECK(packed.stored_bytes() == static_cast<std::size_t>(c.n * c.k + 4 * scales));
  }
  const std::vector<float> w(64, 1.0f);
  CHECK(code_of([&] {
          (void)PackedWeights::quantize(view(w, 2, 32), WeightFormat::fp8_block,
                                        {.one_scale = true});
        }) == ErrorCode::invalid_argument);
}

TEST_CASE("mxfp4: values and exponents of gguf's quantizer") {
  const auto w = golden().values<float>("w");
  const auto packed = PackedWeights::quantize(view(w, 40, 192), WeightFormat::mxfp4);
  const Unpacked all = unpacked(packed);
  CHECK(all.values == golden().values<float>("mxfp4.values"));
  const auto exponents = golden().values<std::uint8_t>("mxfp4.exponents");
  REQUIRE(all.scales.size() == exponents.size());
  for (std::size_t i = 0; i < exponents.size(); ++i) {
    CHECK(all.scales[i] == static_cast<float>(float8_e8m0fnu::from_bits(exponents[i])));
  }
  check_same(packed, all);
  CHECK(packed.stored_bytes() == 40u * (192u / 2 + 6));
}

TEST_CASE("mxfp4: midpoints go to the even code, as OCP MX rounds; extremes stay finite") {
  //                         6 sets the scale 1;       0    .5   1    1.5  2   3    4   6
  const std::vector<float> in = {6.0f, 0.25f,  0.75f,  1.25f,  1.75f, 2.5f, 3.5f,  5.0f,
                                 7.9f, -0.25f, -0.75f, -1.75f, -5.0f, 0.0f, 0.26f, 5.01f};
  const std::vector<float> out = {6, 0, 1, 1, 2, 2, 4, 4, 6, 0, -1, -2, -4, 0, 0.5f, 6};
  std::vector<float> w(32);
  std::copy(in.begin(), in.end(), w.begin());
  const auto values = [](const std::vector<float>& weights) {
    return unpacked(PackedWeights::quantize(view(weights, 1, 32), WeightFormat::mxfp4)).values;
  };
  const std::vector<float> got = values(w);
  for (std::size_t i = 0; i < out.size(); ++i) CHECK(got[i] == out[i]);
  w.assign(32, 3.4e38f);
  for (const float value : values(w)) CHECK((std::isfinite(value) && value > 2e38f));
  w.assign(32, 1e-45f);
  CHECK(values(w) == std::vector<float>(32, 0.0f));  // below half an element of 2^-127
  w.assign(32, 0x1p-127f);
  CHECK(values(w) == w);
}

TEST_CASE("int3 and int2: codes and zero points by GPTQ's formulas, kept as they are") {
  const auto w = golden().values<float>("w");
  for (const WeightFormat format : {WeightFormat::int3_group, WeightFormat::int2_group}) {
    for (const bool affine : {true, false}) {
      const std::string name = std::string(to_string(format)) + (affine ? ".affine" : ".symmetric");
      INFO(name);
      const auto packed =
          PackedWeights::quantize(view(w, 40, 192), format, {.zero_points = affine});
      CHECK(packed.has_zero_points());
      const Unpacked all = unpacked(packed);
      CHECK(all.codes == golden().values<std::uint8_t>(name + ".codes"));
      CHECK(all.zeros == golden().values<std::uint8_t>(name + ".zeros"));
      const auto scales = golden().values<float16>(name + ".scales");
      CHECK(all.scales == std::vector<float>(scales.begin(), scales.end()));
      check_same(packed, all);
      // Without zero points it is the middle code.
      if (affine) continue;
      Context context;
      const auto again = PackedWeights::from_codes(
          context, {.format = format,
                    .codes = MatrixView<const std::uint8_t>(all.codes.data(), 40, 192),
                    .scales = all.scales,
                    .block = 64});
      CHECK(unpacked(again).values == all.values);
    }
  }
}

TEST_CASE("every format: groups of 32, 64, 128 and whole rows; a layer multiplies what it holds") {
  const std::int64_t n = 40;
  const std::int64_t k = 192;
  const auto w = golden().values<float>("w");
  std::mt19937_64 generator(test_seed());
  const std::vector<float> x = random_floats(generator, 3 * k);
  for (const WeightFormat format :
       {WeightFormat::int8_group, WeightFormat::int4_group, WeightFormat::int3_group,
        WeightFormat::int2_group, WeightFormat::fp8_row, WeightFormat::fp8_block,
        WeightFormat::mxfp4}) {
    const bool groups = describe(format).block != 0 && format != WeightFormat::mxfp4;
    for (const std::int64_t block : {32, 64, 128, 256}) {
      if (!groups && block > 32) continue;
      INFO(to_string(format) << " in blocks of " << block);
      const auto packed =
          PackedWeights::quantize(view(w, n, k), format, {.block = groups ? block : 0});
      if (groups) CHECK(packed.block() == block);
      const std::vector<float> values = unpacked_values(packed);
      const Linear layer = Linear::from(packed, {}, {.arithmetic = Arithmetic::exact});
      std::vector<float> y(static_cast<std::size_t>(3 * n));
      layer.forward(view(x, 3, k), MatrixView<float>(y.data(), 3, n));
      for (std::int64_t m = 0; m < 3; ++m) {
        for (std::int64_t o = 0; o < n; ++o) {
          double sum = 0;
          double size = 0;
          for (std::int64_t i = 0; i < k; ++i) {
            const double product = double{x[static_cast<std::size_t>(m * k + i)]} *
                                   double{values[static_cast<std::size_t>(o * k + i)]};
            sum += product;
            size += std::fabs(product);
          }
          CHECK(std::fabs(double{y[static_cast<std::size_t>(m * n + o)]} - sum) <=
                1e-5 * size + 1e-30);
        }
      }
    }
  }
}

TEST_CASE("codes that no weight can have are refused by name") {
  Context context;
  std::vector<std::uint8_t> codes(64, 1);
  const auto message = [&](WeightFormat format, std::vector<float> scales,
                           std::vector<std::uint8_t> zeros = {}, std::int64_t block = 0) {
    std::string text;
    CHECK(code_of(
              [&] {
                (void)PackedWeights::from_codes(
                    context, {.format = format,
                              .codes = MatrixView<const std::uint8_t>(codes.data(), 2, 32),
                              .scales = scales,
                              .zero_points = zeros,
                              .block = block});
              },
              &text) != ErrorCode::ok);
    return text;
  };
  codes[40] = 4;
  CHECK(message(WeightFormat::int2_group, {1, 1}).find("row 1 has a code beyond 3") !=
        std::string::npos);
  codes[40] = 8;
  CHECK(message(WeightFormat::int3_group, {1, 1}).find("row 1 has a code beyond 7") !=
        std::string::npos);
  codes[40] = 1;
  CHECK(message(WeightFormat::int2_group, {1, 1}, {2, 5}).find("zero point 1 is 5, not 0 to 4") !=
        std::string::npos);
  CHECK(message(WeightFormat::mxfp4, {1.0f, 1.5f}).find("float8_e8m0fnu does not hold exactly") !=
        std::string::npos);
  CHECK(message(WeightFormat::int8_group, {0.1f, 1}, {}, 32).find("fp16 does not hold exactly") !=
        std::string::npos);
  CHECK(message(WeightFormat::fp8_row, {1, NAN}).find("scale 1 is") != std::string::npos);
  CHECK(message(WeightFormat::fp8_row, {1}).find("1 scales and 0 zero points for 2 blocks") !=
        std::string::npos);
  CHECK(message(WeightFormat::fp8_row, {1, 1}, {1, 1}).find("fp8 has no zero points") !=
        std::string::npos);
  codes[3] = 0xFF;
  CHECK(message(WeightFormat::fp8_row, {1, 1}).find("row 0 has an element that is NaN") !=
        std::string::npos);
  CHECK(message(WeightFormat::float32, {}).find("fp32 weights have no codes") != std::string::npos);
}

}  // namespace kvant::test
