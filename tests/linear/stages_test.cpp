// The two stages of forward: together they are forward, bit for bit; one quantization serves every
// layer with the same options; what does not fit is refused.

#include <cstring>

#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "kvant/quant_params.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

constexpr std::int64_t kStagesN = 70;
constexpr std::int64_t kStagesK = 130;

std::vector<float> with_outliers(std::mt19937_64& generator, std::int64_t m) {
  std::vector<float> x = random_floats(generator, m * kStagesK);
  for (std::int64_t r = 0; r < m; ++r) x[static_cast<std::size_t>(r * kStagesK + 5)] = 30.0f;
  if (m > 1) x[static_cast<std::size_t>(kStagesK + 77)] = -9.0f;
  return x;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace

TEST_CASE("stages: quantize_activations and forward are forward, for every option and format") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, kStagesN * kStagesK);
  const std::vector<float> bias = random_floats(generator, kStagesN);
  const std::vector<std::int64_t> keep = {5, 64};
  QuantParams one;
  one.scale = {0.05f};
  QuantParams groups;
  groups.block = {0, 50};
  groups.scale = {0.03f, 0.05f, 0.02f};
  const std::vector<ActivationOptions> options = {
      {},
      {.static_params = &one},
      {.static_params = &groups},
      {.activation_type = DType::float8_e4m3fn},
      {.threshold = 0.0f},
      {.outliers = Outliers::per_row},
      {.keep_columns = keep},
      {.outliers = Outliers::calibrated, .keep_columns = keep},
      {.arithmetic = Arithmetic::bitsandbytes},
      {.arithmetic = Arithmetic::exact},
      {.arithmetic = Arithmetic::int15},
      {.activation_scale = ActivationScale::per_tensor},
      {.check_finite = true},
  };
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    Context context({.isa = isa.name});
    QuantizedActivations activations;  // one for all: its memory is used again
    for (const WeightFormat format :
         {WeightFormat::int8_row, WeightFormat::bfloat16, WeightFormat::float32,
          WeightFormat::float16, WeightFormat::int4_group, WeightFormat::nf4,
          WeightFormat::int3_group, WeightFormat::fp8_block, WeightFormat::mxfp4}) {
      for (std::size_t o = 0; o < options.size(); ++o) {
        const Linear layer = Linear::quantize(context, view(w, kStagesN, kStagesK), format,
                                              view(bias, 1, kStagesN), options[o]);
        for (const std::int64_t m : {0, 1, 2, 9}) {
          const std::vector<float> x = with_outliers(generator, m);
          std::vector<float> want(static_cast<std::size_t>(m * kStagesN));
          std::vector<float> got(want.size(), -1.0f);
          layer.forward(context, view(x, m, kStagesK), MatrixView<float>(want.data(), m, kStagesN));
          layer.quantize_activations(context, view(x, m, kStagesK), activations);
          CHECK(activations.rows() == m);
          CHECK(activations.cols() == kStagesK);
          layer.forward(context, activations, MatrixView<float>(got.data(), m, kStagesN));
          INFO(isa.name << " " << to_string(format) << " options " << o << " m " << m);
          CHECK(same_bits(got, want));
        }
      }
    }
  }
}

TEST_CASE("stages: one quantization serves every layer with the same options") {
  std::mt19937_64 generator(test_seed());
  Context context;
  const std::vector<float> x = with_outliers(generator, 4);
  std::vector<Linear> layers;
  for (const std::int64_t n : {kStagesN, std::int64_t{3}, std::int64_t{129}}) {
    const std::vector<float> w = random_floats(generator, n * kStagesK);
    layers.push_back(Linear::quantize(context, view(w, n, kStagesK), WeightFormat::int8_row));
  }
  const QuantizedActivations shared = quantize_activations(context, view(x, 4, kStagesK));
  CHECK(
      std::vector<std::int64_t>(shared.outlier_columns().begin(), shared.outlier_columns().end()) ==
      std::vector<std::int64_t>{5, 77});
  CHECK(shared.absmax().size() == 4);
  for (const Linear& layer : layers) {
    CHECK(layer.shares_activations_with(layers.front()));
    const std::int64_t n = layer.out_features();
    std::vector<float> want(static_cast<std::size_t>(4 * n));
    std::vector<float> got(want.size());
    layer.forward(context, view(x, 4, kStagesK), MatrixView<float>(want.data(), 4, n));
    layer.forward(context, shared, MatrixView<float>(got.data(), 4, n));
    CHECK(same_bits(got, want));
  }
}

TEST_CASE("stages: activations of other options, shapes or kernels are refused") {
  std::mt19937_64 generator(test_seed());
  Context context;
  const std::vector<float> w = random_floats(generator, kStagesN * kStagesK);
  const std::vector<float> x = with_outliers(generator, 2);
  std::vector<float> y(2 * kStagesN, 7.0f);
  const MatrixView<float> out(y.data(), 2, kStagesN);
  const Linear layer =
      Linear::quantize(context, view(w, kStagesN, kStagesK), WeightFormat::int8_row);
  const Linear other = Linear::quantize(context, view(w, kStagesN, kStagesK),
                                        WeightFormat::int8_row, {}, {.threshold = 5.0f});
  const Linear half =
      Linear::quantize(context, view(w, kStagesN, kStagesK), WeightFormat::bfloat16);
  CHECK_FALSE(layer.shares_activations_with(other));
  CHECK_FALSE(layer.shares_activations_with(half));
  QuantizedActivations a = quantize_activations(context, view(x, 2, kStagesK));
  CHECK(message_of([&] { other.forward(context, a, out); }, ErrorCode::invalid_argument)
            .find("threshold 5") != std::string::npos);
  message_of([&] { half.forward(context, a, out); }, ErrorCode::unsupported);
  message_of([&] { layer.forward(context, a, MatrixView<float>(y.data(), 1, kStagesN)); },
             ErrorCode::shape_mismatch);
  const QuantizedActivations narrow = quantize_activations(context, view(x, 2, kStagesK - 1));
  message_of([&] { layer.forward(context, narrow, out); }, ErrorCode::shape_mismatch);
  message_of([&] { layer.forward(context, QuantizedActivations(), out); },
             ErrorCode::shape_mismatch);
  message_of(
      [&] { (void)quantize_activations(context, view(x, 2, kStagesK), {.threshold = -1.0f}); },
      ErrorCode::invalid_argument);
  if (context.isa() != "scalar") {
    Context scalar({.isa = "scalar"});
    const QuantizedActivations plain = quantize_activations(scalar, view(x, 2, kStagesK));
    message_of([&] { layer.forward(context, plain, out); }, ErrorCode::unsupported);
    message_of([&] { layer.forward(scalar, a, out); }, ErrorCode::unsupported);
  }
  CHECK(y == std::vector<float>(2 * kStagesN, 7.0f));
  const QuantizedActivations taken = std::move(a);
  CHECK(taken.rows() == 2);
  CHECK(a.rows() == 0);  // NOLINT: that is the question
}

TEST_CASE("stages: memory is kept from batch to batch") {
  std::mt19937_64 generator(test_seed());
  Context context({.executor = inline_executor()});
  QuantizedActivations a;
  const std::vector<float> x = with_outliers(generator, 32);
  quantize_activations(context, view(x, 32, kStagesK), {}, a);
  const std::size_t bytes = a.memory_footprint();
  CHECK(bytes >= 32 * kStagesK);
  for (const std::int64_t m : {1, 7, 32}) {
    quantize_activations(context, view(x, m, kStagesK), {}, a);
    CHECK(a.memory_footprint() == bytes);
  }
}

}  // namespace kvant::test
