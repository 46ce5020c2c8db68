// Static scales and zero points of activations: the integers and floats of the definition
// (core::llm_int8_matmul) on every instruction set, what other formats make of them, 8-bit floats.

#include <cmath>
#include <limits>

#include "kvant/core/llm_int8.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/observer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

constexpr std::int64_t kStaticN = 35;
constexpr std::int64_t kStaticK = 139;
constexpr std::int64_t kBlocks = 192;  // inputs that blocks of 64 divide

QuantParams params_of(const QuantScheme& scheme, std::vector<float> scale,
                      std::vector<std::int32_t> zero_point = {}, BlockShape block = per_tensor) {
  QuantParams params;
  params.scheme = scheme;
  params.scale = std::move(scale);
  params.zero_point = std::move(zero_point);
  params.block = block;
  return params;
}

/// Positive on the whole, as behind a ReLU; some beyond every range.
std::vector<float> activations(std::int64_t m, std::int64_t k = kStaticK) {
  std::mt19937_64 generator(test_seed());
  std::vector<float> x = random_floats(generator, m * k);
  for (float& value : x) value += 0.7f;
  if (m > 0) x[7] = 90.0f;
  if (m > 1) x[static_cast<std::size_t>(k + 3)] = -80.0f;
  return x;
}

std::vector<QuantParams> all_params() {
  return {
      params_of(int8_symmetric, {0.03f}),
      params_of(int8_affine, {0.02f}, {-71}),
      params_of(int8_affine, {0.02f}, {-128}),
      params_of(uint8_affine, {0.02f}, {60}),
      params_of(torch_quint8_affine.with_order(RoundOrder::kvant), {0.021f}, {128}),
      params_of(quanto_qint8, {0.031f}),
      params_of(int8_affine, {0.02f, 0.04f, 0.01f, 0.03f, 0.025f}, {3, -5, 0, 127, -128}, {0, 32}),
      params_of(int8_symmetric, std::vector<float>(kStaticK, 0.02f), {}, {0, 1})};
}

template <class T>
std::vector<T> narrow(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float value : values) result.push_back(static_cast<T>(value));
  return result;
}

template <class X, class Y>
void compare(Context& context, const std::vector<float>& x_values, std::int64_t m,
             const ActivationOptions& options) {
  std::mt19937_64 generator(test_seed() + 1);
  const std::vector<float> w = random_floats(generator, kStaticN * kStaticK, 0.1f);
  const std::vector<float> bias = random_floats(generator, kStaticN);
  const std::vector<X> x = narrow<X>(x_values);
  Matrix<Y> want(m, kStaticN);
  Matrix<Y> got(m, kStaticN);
  core::llm_int8_matmul(view(x, m, kStaticK), view(w, kStaticN, kStaticK), want,
                        view(bias, 1, kStaticN), options);
  Linear::quantize(context, view(w, kStaticN, kStaticK), WeightFormat::int8_row,
                   view(bias, 1, kStaticN), options)
      .forward(context, view(x, m, kStaticK), got);
  for (std::size_t i = 0; i < want.values().size(); ++i) {
    const auto a = static_cast<float>(want.values()[i]);
    const auto b = static_cast<float>(got.values()[i]);
    CAPTURE(i, a, b);
    REQUIRE((a == b || (std::isnan(a) && std::isnan(b))));
  }
}

/// x W^T in double.
std::vector<double> product(MatrixView<const float> x, MatrixView<const float> w) {
  std::vector<double> y;
  for (std::int64_t m = 0; m < x.rows(); ++m) {
    for (std::int64_t n = 0; n < w.rows(); ++n) {
      double sum = 0;
      for (std::int64_t k = 0; k < x.cols(); ++k) sum += static_cast<double>(x(m, k)) * w(n, k);
      y.push_back(sum);
    }
  }
  return y;
}

}  // namespace

TEST_CASE("static activations: the definition's bits on every instruction set") {
  const std::vector<std::int64_t> keep = {7, 64, 138};
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    Context context({.isa = isa.name});
    for (std::size_t p = 0; p < all_params().size(); ++p) {
      const QuantParams params = all_params()[p];
      for (const std::int64_t m : {0, 1, 2, 9}) {
        INFO(isa.name << " params " << p << " m " << m);
        compare<float, float>(context, activations(m), m, {.static_params = &params});
      }
      INFO(isa.name << " params " << p);
      compare<float16, bfloat16>(context, activations(3), 3, {.static_params = &params});
      compare<bfloat16, float16>(context, activations(3), 3,
                                 {.keep_columns = keep, .static_params = &params});
    }
  }
}

TEST_CASE("static activations: NaN counts as 0, infinities saturate, unless they are errors") {
  const QuantParams params = params_of(int8_affine, {0.02f}, {-20});
  std::vector<float> x = activations(2);
  x[5] = std::numeric_limits<float>::quiet_NaN();
  x[kStaticK + 9] = -std::numeric_limits<float>::infinity();
  Context context;
  compare<float, float>(context, x, 2, {.static_params = &params});
  const ActivationOptions strict{.static_params = &params, .check_finite = true};
  const std::vector<float> w(kStaticN * kStaticK, 0.5f);
  const Linear layer =
      Linear::quantize(context, view(w, kStaticN, kStaticK), WeightFormat::int8_row, {}, strict);
  Matrix<float> y(1, kStaticN);
  CHECK(message_of([&] { layer.forward(context, view(x, 1, kStaticK), y); }, ErrorCode::not_finite)
            .find("row 0 of x has NaN or Inf") != std::string::npos);
}

TEST_CASE("static activations: every format multiplies what the codes stand for") {
  const std::int64_t k = GENERATE(kBlocks, kStaticK);
  std::mt19937_64 generator(test_seed() + 2);
  const std::vector<float> w = random_floats(generator, kStaticN * k, 0.1f);
  const std::vector<float> bias = random_floats(generator, kStaticN);
  const std::int64_t m = 5;
  const std::vector<float> x = activations(m, k);
  const QuantScheme affine = int8_affine.with_range(-127, 127);
  const std::vector<QuantParams> all = {
      params_of(int8_symmetric, {0.03f}), params_of(affine, {0.02f}, {-60}),
      params_of(affine, {0.02f, 0.01f}, {-60, 5}, {0, 96}),
      params_of(float8_e4m3fn_symmetric, {0.01f}),
      params_of(float8_e4m3fn_symmetric, {0.01f, 0.02f}, {}, {0, 96})};
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    Context context({.isa = isa.name});
    for (const WeightFormat format :
         {WeightFormat::int8_row, WeightFormat::int8_group, WeightFormat::int4_group,
          WeightFormat::int3_group, WeightFormat::nf4, WeightFormat::mxfp4, WeightFormat::fp8_row,
          WeightFormat::float32}) {
      for (std::size_t p = 0; p < all.size(); ++p) {
        for (const Arithmetic arithmetic : {Arithmetic::kvant, Arithmetic::exact}) {
          const bool table = format == WeightFormat::nf4 || format == WeightFormat::mxfp4;
          if (table && p > 0 && arithmetic == Arithmetic::kvant) continue;  // below
          INFO(isa.name << " " << to_string(format) << " params " << p);
          const ActivationOptions options{.arithmetic = arithmetic, .static_params = &all[p]};
          const Linear layer = Linear::quantize(context, view(w, kStaticN, k), format,
                                                view(bias, 1, kStaticN), options);
          Matrix<float> got(m, kStaticN);
          layer.forward(context, view(x, m, k), got);
          Matrix<float> weights(kStaticN, k);
          layer.dequantize(weights);
          const Matrix<float> rounded = fake_quantize(view(x, m, k), all[p]);
          const std::vector<double> want = product(rounded, weights);
          // Codebooks are rounded to integers in integer arithmetic.
          const double most = format == WeightFormat::nf4 ? 0.5 : 2e-3;
          for (std::int64_t i = 0; i < m * kStaticN; ++i) {
            const double y = want[static_cast<std::size_t>(i)] +
                             static_cast<double>(bias[static_cast<std::size_t>(i % kStaticN)]);
            REQUIRE(std::fabs(got.values()[static_cast<std::size_t>(i)] - y) < most);
          }
          CHECK(layer.has_bias());
        }
      }
    }
  }
}

TEST_CASE("activations in 8-bit floats: rounded by each row's absmax, or by the call's") {
  std::mt19937_64 generator(test_seed() + 3);
  const std::vector<float> w = random_floats(generator, kStaticN * kStaticK, 0.1f);
  const std::int64_t m = 3;
  const std::vector<float> x = activations(m);
  Context context;
  for (const bool by_tensor : {false, true}) {
    const ActivationOptions options{
        .activation_scale = by_tensor ? ActivationScale::per_tensor : ActivationScale::per_row,
        .activation_type = DType::float8_e4m3fn};
    const Linear layer =
        Linear::quantize(context, view(w, kStaticN, kStaticK), WeightFormat::int8_row, {}, options);
    CHECK(layer.options().arithmetic == Arithmetic::exact);
    Matrix<float> got(m, kStaticN);
    layer.forward(context, view(x, m, kStaticK), got);
    Matrix<float> weights(kStaticN, kStaticK);
    layer.dequantize(weights);
    const QuantParams params = choose_params(view(x, m, kStaticK), float8_e4m3fn_symmetric,
                                             by_tensor ? per_tensor : per_row);
    const Matrix<float> rounded = fake_quantize(view(x, m, kStaticK), params);
    const std::vector<double> want = product(rounded, weights);
    for (std::size_t i = 0; i < want.size(); ++i) {
      CHECK(std::fabs(got.values()[i] - want[i]) < 1e-4);
    }
  }
}

TEST_CASE("static activations: an observer's params, and layers that share a batch") {
  std::mt19937_64 generator(test_seed() + 4);
  const std::vector<float> w = random_floats(generator, kStaticN * kStaticK, 0.1f);
  const std::vector<float> x = activations(16);
  MinMaxObserver observer;
  observer.observe(view(x, 16, kStaticK));
  const QuantParams params = observer.params(int8_affine);
  Context context;
  const ActivationOptions options{.static_params = &params};
  const Linear q =
      Linear::quantize(context, view(w, kStaticN, kStaticK), WeightFormat::int8_row, {}, options);
  const Linear k =
      Linear::quantize(context, view(w, kStaticN, kStaticK), WeightFormat::int8_row, {}, options);
  QuantParams others = params;
  others.scale[0] *= 2;
  const Linear v = Linear::quantize(context, view(w, kStaticN, kStaticK), WeightFormat::int8_row,
                                    {}, {.static_params = &others});
  CHECK(q.shares_activations_with(k));
  CHECK_FALSE(q.shares_activations_with(v));
  CHECK(q.options().static_params != &params);  // a copy
  CHECK(q.options().static_params->scale == params.scale);
  QuantizedActivations batch;
  q.quantize_activations(context, view(x, 16, kStaticK), batch);
  CHECK(batch.absmax().empty());
  Matrix<float> y(16, kStaticN);
  k.forward(context, batch, y);
  CHECK(message_of([&] { v.forward(context, batch, y); }, ErrorCode::invalid_argument)
            .find("1 static scales, the first ") != std::string::npos);
}

TEST_CASE("static activations: what is refused, with the values") {
  Context context;
  const std::vector<float> w(kStaticN * kBlocks, 0.5f);
  const std::vector<std::int64_t> keep = {1};
  const auto refuses = [&](const QuantParams& params, ErrorCode code, WeightFormat format,
                           ActivationOptions options = {}) {
    options.static_params = &params;
    return message_of(
        [&] { (void)Linear::quantize(context, view(w, kStaticN, kBlocks), format, {}, options); },
        code);
  };
  const auto has = [](const std::string& text, const char* part) {
    CAPTURE(text);
    CHECK(text.find(part) != std::string::npos);
  };
  const WeightFormat int8 = WeightFormat::int8_row;
  has(refuses(params_of(int8_symmetric, {0.1f, 0.2f}), ErrorCode::shape_mismatch, int8),
      "2 scales");
  has(refuses(params_of(int8_symmetric, {0.0f}), ErrorCode::invalid_argument, int8), "scale 0");
  has(refuses(params_of(int8_symmetric, {0.1f}, {}, per_row), ErrorCode::unsupported, int8),
      "differ between rows");
  has(refuses(params_of(int4_symmetric, {0.1f}), ErrorCode::unsupported, int8), "int4");
  has(refuses(params_of(torch_qint8_affine, {0.1f}, {3}), ErrorCode::unsupported, int8),
      "with_order(RoundOrder::kvant)");
  has(refuses(params_of(int8_affine, {0.1f}, {3}), ErrorCode::unsupported,
              WeightFormat::int4_group),
      "with_range(-127, 127)");
  has(refuses(params_of(int8_affine.with_range(-127, 127), {0.1f}, {3}), ErrorCode::unsupported,
              WeightFormat::nf4),
      "symmetric");
  has(refuses(params_of(int8_symmetric, {0.1f}), ErrorCode::invalid_argument, int8,
              {.arithmetic = Arithmetic::bitsandbytes}),
      "bitsandbytes");
  has(refuses(params_of(float8_e4m3fn_symmetric, {0.1f}), ErrorCode::unsupported, int8,
              {.keep_columns = keep}),
      "kept columns");
  const QuantParams groups = params_of(int8_symmetric, {0.1f, 0.2f}, {}, {0, 100});
  const PackedWeights packed = PackedWeights::quantize(context, view(w, kStaticN, kBlocks), int8);
  has(message_of([&] { (void)Linear::from(packed, {}, {.static_params = &groups}); },
                 ErrorCode::unsupported),
      "Linear::quantize from floats");
  // Sums of codes as far as 255 from the zero point fit int32 up to 65,793 inputs.
  const std::int64_t wide = 65794;
  const std::vector<float> row(static_cast<std::size_t>(wide), 0.5f);
  const QuantParams affine = params_of(int8_affine, {0.1f}, {-128});
  has(message_of(
          [&] {
            (void)Linear::quantize(context, view(row, 1, wide), int8, {},
                                   {.static_params = &affine});
          },
          ErrorCode::out_of_range),
      "exact up to 65793");
}

}  // namespace kvant::test
