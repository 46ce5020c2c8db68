// Arithmetic::int15: activations of two int8 codes, against the products of their codes and against
// real values.

#include "kvant/core/int15.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "kvant/core/llm_int8.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "kvant/matrix.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"
#include "support/special_floats.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

constexpr ActivationOptions kInt15{.arithmetic = Arithmetic::int15};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

float absmax_of(const float* x, std::int64_t k) {
  float absmax = 0;
  for (std::int64_t i = 0; i < k; ++i) {
    if (!std::isfinite(x[i])) return kNaN;
    absmax = std::max(absmax, std::fabs(x[i]));
  }
  return absmax;
}

/// Weights whose int8 codes are they themselves, scales 1: what a product of integers rounds is
/// then the activations' alone.
std::vector<float> integer_weights(std::mt19937_64& generator, std::int64_t n, std::int64_t k) {
  std::vector<float> w;
  for (const std::int8_t code : random_codes(generator, n * k, -127, 127)) w.push_back(code);
  for (std::int64_t r = 0; r < n; ++r) w[static_cast<std::size_t>(r * k)] = 127.0f;
  return w;
}

/// y by the rules: the codes of both planes as floats through a layer that leaves them as they are
/// (one absmax of 127 for all rows, so scales of 1), then the sum.
template <class Y>
std::vector<Y> by_the_rules(const Linear& plain, const std::vector<float>& x, std::int64_t m,
                            const std::vector<float>& bias) {
  const std::int64_t k = plain.in_features();
  const std::int64_t n = plain.out_features();
  std::vector<float> codes(static_cast<std::size_t>((2 * m + 1) * k), 0.0f);
  codes[static_cast<std::size_t>(2 * m * k)] = 127.0f;
  std::vector<Int15Scale> scales;
  for (std::int64_t r = 0; r < m; ++r) {
    const Int15Scale scale = int15_scale(absmax_of(x.data() + r * k, k));
    scales.push_back(scale);
    for (std::int64_t c = 0; c < k; ++c) {
      const Int15Code code = int15_code(x[static_cast<std::size_t>(r * k + c)], scale.inverse);
      codes[static_cast<std::size_t>(2 * r * k + c)] = code.high;
      codes[static_cast<std::size_t>((2 * r + 1) * k + c)] = code.low;
    }
  }
  std::vector<float> sums(static_cast<std::size_t>((2 * m + 1) * n));
  plain.forward(view(codes, 2 * m + 1, k), MatrixView<float>(sums.data(), 2 * m + 1, n));
  std::vector<Y> y;
  for (std::int64_t r = 0; r < m; ++r) {
    const Int15Scale& scale = scales[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < n; ++c) {
      const float high = sums[static_cast<std::size_t>(2 * r * n + c)] * scale.high;
      const float low = sums[static_cast<std::size_t>((2 * r + 1) * n + c)] * scale.low;
      const float sum = high + low;
      y.push_back(Y(bias.empty() ? sum : sum + bias[static_cast<std::size_t>(c)]));
    }
  }
  return y;
}

template <class X, class Y>
void check_product(std::mt19937_64& generator, WeightFormat format, std::int64_t m, std::int64_t n,
                   std::int64_t k, bool with_bias) {
  const std::vector<float> w = format == WeightFormat::int8_row ? integer_weights(generator, n, k)
                                                                : random_floats(generator, n * k);
  const std::vector<float> bias = with_bias ? random_floats(generator, n) : std::vector<float>();
  std::vector<float> x = random_floats(generator, m * k, 3.0f);
  for (std::size_t i = 0; i < x.size(); i += 37) x[i] *= 30.0f;
  std::vector<X> typed;
  for (float& value : x) {
    typed.push_back(X(value));
    value = static_cast<float>(typed.back());
  }
  Context scalar({.isa = "scalar", .threads = 1});
  const ActivationOptions plain{.threshold = 0, .activation_scale = ActivationScale::per_tensor};
  const std::vector<Y> want = by_the_rules<Y>(
      Linear::quantize(default_context(), view(w, n, k), format, {}, plain), x, m, bias);
  const ConstAnyMatrix bias_view = bias.empty() ? ConstAnyMatrix{} : view(bias, 1, n);
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    for (const int threads : {1, 3}) {
      Context context({.isa = isa.name, .threads = threads});
      const Linear layer = Linear::quantize(context, view(w, n, k), format, bias_view, kInt15);
      std::vector<Y> y(static_cast<std::size_t>(m * n));
      layer.forward(context, view(typed, m, k), MatrixView<Y>(y.data(), m, n));
      INFO(to_string(format) << " " << m << "x" << n << "x" << k << ", " << isa.name << ", "
                             << threads << " threads, seed " << test_seed());
      CHECK(same_bits(y, want));
    }
  }
}

}  // namespace

TEST_CASE("int15: two codes of an activation, their ranges and their error") {
  std::mt19937_64 generator(test_seed());
  std::vector<float> x = random_floats(generator, 20000, 2.0f);
  x[7] = -11.5f;  // the largest
  const float absmax = absmax_of(x.data(), 20000);
  const Int15Scale scale = int15_scale(absmax);
  CHECK(scale.high == absmax / 127.0f);
  CHECK(scale.low == scale.high / 128.0f);
  int lowest = 0;
  int highest = 0;
  double worst = 0;
  for (const float value : x) {
    const Int15Code code = int15_code(value, scale.inverse);
    REQUIRE(std::abs(int{code.high}) <= 127);
    lowest = std::min<int>(lowest, code.low);
    highest = std::max<int>(highest, code.low);
    const double back = (128.0 * code.high + code.low) * double{scale.low};
    worst = std::max(worst, std::fabs(back - double{value}));
  }
  CHECK(lowest == -64);
  CHECK(highest == 64);
  CHECK(worst <= double{absmax} / 32512 * 1.001);
  CHECK(int15_code(absmax, scale.inverse).high == 127);
  CHECK(int15_code(absmax, scale.inverse).low == 0);
  CHECK(int15_code(-absmax, scale.inverse).high == -127);
  CHECK(int15_code(-absmax, scale.inverse).low == 0);
}

TEST_CASE("int15: rows of zeros, of the smallest floats and of what is not finite") {
  CHECK(int15_scale(0.0f).inverse == 0.0f);
  CHECK(int15_scale(0.0f).high == 0.0f);
  for (const float absmax : {std::numeric_limits<float>::denorm_min(), 1e-38f, 1e-34f, 3e38f}) {
    const Int15Scale scale = int15_scale(absmax);
    CHECK(std::isfinite(scale.inverse));
    CHECK(scale.high > 0.0f);
    CHECK(std::abs(int{int15_code(absmax, scale.inverse).high}) <= 127);
  }
  const Int15Scale none = int15_scale(kNaN);
  CHECK(none.inverse == 0.0f);
  CHECK(std::isnan(none.high));
  CHECK(std::isnan(none.low));
  CHECK(int15_code(kNaN, none.inverse).high == 0);
  CHECK(int15_code(kInf, none.inverse).low == 0);
}

TEST_CASE("int15: products are those of the two codes, bit for bit, on every set and any threads") {
  std::mt19937_64 generator(test_seed());
  for (const WeightFormatInfo& info : weight_format_table()) {
    if (!info.has_integer_products() && info.format != WeightFormat::int8_row) continue;
    if (info.is_gguf()) continue;  // packed from blocks alone; below
    check_product<float, float>(generator, info.format, 1, 65, 256, true);
    check_product<bfloat16, bfloat16>(generator, info.format, 3, 33, 320, false);
    check_product<float16, float>(generator, info.format, 11, 131, 96, true);
  }
  check_product<float, float16>(generator, WeightFormat::int8_row, 2, 1, 1, true);
  check_product<float, float>(generator, WeightFormat::int8_row, 7, 130, 77, false);
}

TEST_CASE("int15: closer to real activations than their rounding to bf16") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 4;
  const std::int64_t n = 96;
  const std::int64_t k = 1024;
  const std::vector<float> w = random_floats(generator, n * k);
  std::vector<float> x = random_floats(generator, m * k);
  for (std::int64_t r = 0; r < m; ++r) x[static_cast<std::size_t>(r * k + 5)] = 40.0f;
  for (const WeightFormat format :
       {WeightFormat::int4_group, WeightFormat::int8_row, WeightFormat::int8_group}) {
    const auto run = [&](const std::vector<float>& in, const ActivationOptions& options) {
      std::vector<float> y(static_cast<std::size_t>(m * n));
      Linear::quantize(view(w, n, k), format, {}, options)
          .forward(view(in, m, k), MatrixView<float>(y.data(), m, n));
      return y;
    };
    std::vector<float> rounded;
    for (const float value : x) rounded.push_back(static_cast<float>(bfloat16(value)));
    const std::vector<float> want = run(x, {.arithmetic = Arithmetic::exact});
    const auto error = [&](const std::vector<float>& y) {
      return std::sqrt(compare(view(want, m, n), view(y, m, n)).mse);
    };
    const double int15 = error(run(x, kInt15));
    const double bf16 = error(run(rounded, {.arithmetic = Arithmetic::exact}));
    const double int8 = error(run(x, {}));
    INFO(to_string(format) << ": int15 " << int15 << ", bf16 " << bf16 << ", int8 " << int8);
    CHECK(int15 < bf16);
    CHECK(int15 < int8 / 4);
  }
}

TEST_CASE("int15: a row does not depend on its neighbours, however many there are") {
  std::mt19937_64 generator(test_seed());
  // More products than are held at a time (2^23), in blocks of rows of any parity.
  const std::int64_t m = 1101;
  const std::int64_t n = 4001;
  const std::int64_t k = 32;
  const std::vector<float> w = random_floats(generator, n * k);
  const std::vector<float> bias = random_floats(generator, n);
  const std::vector<float> x = random_floats(generator, m * k);
  for (const WeightFormat format : {WeightFormat::int8_row, WeightFormat::int4_group}) {
    const Linear layer = Linear::quantize(view(w, n, k), format, view(bias, 1, n), kInt15);
    std::vector<float> all(static_cast<std::size_t>(m * n));
    layer.forward(view(x, m, k), MatrixView<float>(all.data(), m, n));
    int wrong = 0;
    for (std::int64_t r = 0; r < m; ++r) {
      std::vector<float> one(static_cast<std::size_t>(n));
      layer.forward(MatrixView<const float>(x.data() + r * k, 1, k),
                    MatrixView<float>(one.data(), 1, n));
      wrong += std::memcmp(one.data(), all.data() + r * n, one.size() * sizeof(float)) != 0 ? 1 : 0;
    }
    INFO(to_string(format));
    CHECK(wrong == 0);
  }
}

TEST_CASE("int15: y keeps what lies between its rows, one absmax for all, and nothing to do") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, 5 * 40);
  const std::vector<float> x = random_floats(generator, 3 * 40);
  const Linear layer = Linear::quantize(view(w, 5, 40), WeightFormat::int8_row, {}, kInt15);
  std::vector<float> wide(3 * 8, -7.0f);
  std::vector<float> dense(3 * 5);
  layer.forward(view(x, 3, 40), MatrixView<float>(wide.data(), 3, 5, 8));
  layer.forward(view(x, 3, 40), MatrixView<float>(dense.data(), 3, 5));
  for (std::size_t r = 0; r < 3; ++r) {
    for (std::size_t c = 0; c < 8; ++c) {
      CHECK(wide[r * 8 + c] == (c < 5 ? dense[r * 5 + c] : -7.0f));
    }
  }
  ActivationOptions one = kInt15;
  one.activation_scale = ActivationScale::per_tensor;
  const QuantizedActivations batch = quantize_activations(default_context(), view(x, 3, 40), one);
  REQUIRE(batch.absmax().size() == 3);
  CHECK(batch.absmax()[0] == absmax_of(x.data(), 120));
  CHECK(batch.absmax()[0] == batch.absmax()[2]);
  CHECK(batch.outlier_columns().empty());
  const std::vector<float> none;
  CHECK_NOTHROW(layer.forward(view(none, 0, 40), MatrixView<float>(dense.data(), 0, 5)));
  const Linear no_inputs = Linear::quantize(view(none, 2, 0), WeightFormat::int8_row, {}, kInt15);
  std::vector<float> zeros(4, 1.0f);
  no_inputs.forward(view(none, 2, 0), MatrixView<float>(zeros.data(), 2, 2));
  CHECK(zeros == std::vector<float>(4, 0.0f));
}

TEST_CASE("int15: NaN and infinities are their row's, zeros give the bias") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t n = 9;
  const std::int64_t k = 64;
  const std::vector<float> w = random_floats(generator, n * k);
  const std::vector<float> bias = random_floats(generator, n);
  std::vector<float> x = random_floats(generator, 4 * k);
  x[3] = kNaN;
  x[static_cast<std::size_t>(k + 9)] = -kInf;
  std::fill_n(x.begin() + 2 * k, k, 0.0f);
  for (const WeightFormat format : {WeightFormat::int8_row, WeightFormat::int4_group}) {
    const Linear layer = Linear::quantize(view(w, n, k), format, view(bias, 1, n), kInt15);
    std::vector<float> y(4 * n);
    layer.forward(view(x, 4, k), MatrixView<float>(y.data(), 4, n));
    for (std::size_t i = 0; i < 2 * n; ++i) CHECK(std::isnan(y[i]));
    for (std::size_t i = 0; i < n; ++i) CHECK(y[2 * n + i] == bias[i]);
    for (std::size_t i = 0; i < n; ++i) CHECK(std::isfinite(y[3 * n + i]));
    ActivationOptions strict = kInt15;
    strict.check_finite = true;
    const Linear checked = Linear::quantize(view(w, n, k), format, {}, strict);
    CHECK(code_of([&] { checked.forward(view(x, 4, k), MatrixView<float>(y.data(), 4, n)); }) ==
          ErrorCode::not_finite);
  }
}

TEST_CASE("int15: what does not go with it is refused") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, 8 * 64);
  const std::vector<float> x = random_floats(generator, 2 * 64);
  std::vector<float> y(2 * 8);
  const std::vector<std::int64_t> keep = {5};
  QuantParams params;
  params.scale = {0.05f};
  const auto code = [&](ActivationOptions options) {
    options.arithmetic = Arithmetic::int15;
    return code_of(
        [&] { (void)Linear::quantize(view(w, 8, 64), WeightFormat::int8_row, {}, options); });
  };
  CHECK(code({}) == ErrorCode::ok);
  CHECK(code({.outliers = Outliers::calibrated}) == ErrorCode::ok);  // means nothing here
  CHECK(code({.keep_columns = keep}) == ErrorCode::invalid_argument);
  CHECK(code({.activation_type = DType::float8_e4m3fn}) == ErrorCode::invalid_argument);
  CHECK(code({.static_params = &params}) == ErrorCode::invalid_argument);
  CHECK(code_of([&] {
          core::llm_int8_matmul(view(x, 2, 64), view(w, 8, 64), MatrixView<float>(y.data(), 2, 8),
                                {}, kInt15);
        }) == ErrorCode::unsupported);
  // Batches of one code and of two are not mistaken for one another.
  Context context;
  const QuantizedActivations one = quantize_activations(context, view(x, 2, 64));
  const QuantizedActivations two = quantize_activations(context, view(x, 2, 64), kInt15);
  const Linear layer = Linear::quantize(context, view(w, 8, 64), WeightFormat::int8_row);
  const Linear fine = Linear::quantize(context, view(w, 8, 64), WeightFormat::int8_row, {}, kInt15);
  const auto forward = [&](const Linear& by, const QuantizedActivations& batch) {
    return code_of([&] { by.forward(context, batch, MatrixView<float>(y.data(), 2, 8)); });
  };
  CHECK(forward(layer, two) == ErrorCode::invalid_argument);
  CHECK(forward(fine, one) == ErrorCode::invalid_argument);
  CHECK(forward(fine, two) == ErrorCode::ok);
  const Linear other = Linear::quantize(context, view(w, 8, 64), WeightFormat::int8_row, {},
                                        {.threshold = 3.0f, .arithmetic = Arithmetic::int15});
  CHECK(forward(other, two) == ErrorCode::ok);
  CHECK(other.shares_activations_with(fine));
  CHECK_FALSE(fine.shares_activations_with(layer));
  CHECK(fine.shares_activations_with(fine));
}

TEST_CASE("int15: a format without integer products is multiplied as exact") {
  std::mt19937_64 generator(test_seed());
  const std::vector<float> w = random_floats(generator, 40 * 128);
  const std::vector<float> x = random_floats(generator, 3 * 128);
  for (const WeightFormat format : {WeightFormat::fp8_row, WeightFormat::bfloat16}) {
    const auto run = [&](Arithmetic arithmetic) {
      std::vector<float> y(3 * 40);
      Linear::quantize(view(w, 40, 128), format, {}, {.arithmetic = arithmetic})
          .forward(view(x, 3, 128), MatrixView<float>(y.data(), 3, 40));
      return y;
    };
    CHECK(same_bits(run(Arithmetic::int15), run(Arithmetic::exact)));
  }
}

}  // namespace kvant::test
