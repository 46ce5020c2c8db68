// Where linear quantizers and layers meet: a QuantizedMatrix becomes the weights of a layer without
// a change to any value, for every granularity that a format holds; the others are refused by name.

#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

constexpr std::int64_t kQuantizedN = 50;
constexpr std::int64_t kQuantizedK = 192;

QuantizedMatrix quantized(const std::vector<float>& w, const QuantScheme& scheme,
                          BlockShape block) {
  return quantize(view(w, kQuantizedN, kQuantizedK),
                  choose_params(view(w, kQuantizedN, kQuantizedK), scheme, block));
}

}  // namespace

TEST_CASE("from a linear quantizer: values are the same, bit for bit") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, kQuantizedN * kQuantizedK);
  struct Case {
    QuantScheme scheme;
    BlockShape block;
    WeightFormat format;
  };
  for (const Case& c : {Case{int8_symmetric, per_tensor, WeightFormat::int8_row},
                        {int8_symmetric, per_row, WeightFormat::int8_row},
                        {int8_symmetric, per_block(7, kQuantizedK), WeightFormat::int8_row},
                        {int8_symmetric, BlockShape{16, 0}, WeightFormat::int8_row},
                        {int8_symmetric, per_group(32), WeightFormat::int8_group},
                        {int8_symmetric, per_group(128), WeightFormat::int8_group},
                        {int8_symmetric, per_block(3, 64), WeightFormat::int8_group},
                        {int4_symmetric, per_row, WeightFormat::int8_row},
                        {int4_affine, per_group(64), WeightFormat::int8_group},
                        {uint4_affine, per_row, WeightFormat::int8_row},
                        {int2_symmetric, per_tensor, WeightFormat::int8_row},
                        {uint2_affine, per_group(96), WeightFormat::int8_group}}) {
    const QuantizedMatrix q = quantized(w, c.scheme, c.block);
    const Linear layer = Linear::from(default_context(), q);
    INFO(c.scheme.name << " in blocks of " << c.block.rows << " x " << c.block.cols);
    CHECK(layer.format() == c.format);
    std::vector<float> values(w.size());
    layer.dequantize(MatrixView<float>(values.data(), kQuantizedN, kQuantizedK));
    CHECK(values == dequantize<float>(q).values());
    if (c.format == WeightFormat::int8_row) {
      const Int8Linear int8 = Int8Linear::from(q, {}, {.threshold = 0.0f});
      int8.dequantize(MatrixView<float>(values.data(), kQuantizedN, kQuantizedK));
      CHECK(values == dequantize<float>(q).values());
      const std::vector<float> x = random_floats(generator, 2 * kQuantizedK);
      std::vector<float> y(2 * kQuantizedN);
      int8.forward(view(x, 2, kQuantizedK), MatrixView<float>(y.data(), 2, kQuantizedN));
      for (std::int64_t m = 0; m < 2; ++m) {
        for (std::int64_t n = 0; n < kQuantizedN; ++n) {
          double want = 0;
          double size = 0;
          for (std::int64_t k = 0; k < kQuantizedK; ++k) {
            const double product = double{x[static_cast<std::size_t>(m * kQuantizedK + k)]} *
                                   values[static_cast<std::size_t>(n * kQuantizedK + k)];
            want += product;
            size += product * product;
          }
          // The activations' rounding: half a step of 127 per element.
          CHECK(std::abs(y[static_cast<std::size_t>(m * kQuantizedN + n)] - want) <=
                0.1 * std::sqrt(size));
        }
      }
    }
  }
}

TEST_CASE("from a linear quantizer: what no format holds is refused by name") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, kQuantizedN * kQuantizedK);
  const auto refused = [&](const QuantScheme& scheme, BlockShape block) {
    const QuantizedMatrix q = quantized(w, scheme, block);
    return message_of([&] { (void)Linear::from(default_context(), q); }, ErrorCode::unsupported);
  };
  CHECK(refused(int8_symmetric, per_column).find("0 x 1") != std::string::npos);
  CHECK(refused(int8_symmetric, per_group(20)).find("1 x 20") != std::string::npos);
  CHECK(refused(quanto_qint4, per_row).find("shift") != std::string::npos);
  CHECK(refused(float8_e4m3fn_symmetric, per_row).find("fp8_row") != std::string::npos);
  std::vector<float> lopsided(w.size());
  for (std::size_t i = 0; i < w.size(); ++i) lopsided[i] = std::abs(w[i]);
  const QuantizedMatrix affine =
      quantize(view(lopsided, kQuantizedN, kQuantizedK),
               choose_params(view(lopsided, kQuantizedN, kQuantizedK), uint8_affine, per_row));
  CHECK(message_of([&] { (void)Linear::from(default_context(), affine); }, ErrorCode::unsupported)
            .find("less its zero point is") != std::string::npos);
  // Int8Linear has one scale a row.
  const QuantizedMatrix grouped = quantized(w, int8_symmetric, per_group(64));
  CHECK(message_of([&] { (void)Int8Linear::from(grouped); }, ErrorCode::unsupported)
            .find("64 of 192") != std::string::npos);
  CHECK(Linear::from(default_context(), QuantizedMatrix()).out_features() == 0);
}

}  // namespace kvant::test
