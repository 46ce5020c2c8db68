// Int8Linear as a user meets it: shapes, types, options and defined edges. (Errors:
// layer_errors_test.cpp.)

#include <cmath>
#include <cstring>

#include "kvant/isa.hpp"
#include "kvant/linear.hpp"
#include "kvant/packed_matrix.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/guarded_buffer.hpp"
#include "support/random.hpp"
#include "support/special_floats.hpp"
#include "support/views.hpp"

namespace kvant::test {
namespace {

std::vector<float> run(Context& context, const Int8Linear& layer, const std::vector<float>& x,
                       std::int64_t rows) {
  std::vector<float> y(static_cast<std::size_t>(rows * layer.out_features()), kNaN);
  layer.forward(context, view(x, rows, layer.in_features()),
                MatrixView<float>(y.data(), rows, layer.out_features()));
  return y;
}

std::vector<double> exact(const std::vector<float>& x, const std::vector<float>& w,
                          const std::vector<float>& bias, std::int64_t m, std::int64_t n,
                          std::int64_t k) {
  std::vector<double> y;
  for (std::int64_t i = 0; i < m; ++i) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = bias.empty() ? 0.0 : bias[static_cast<std::size_t>(j)];
      for (std::int64_t l = 0; l < k; ++l) {
        sum +=
            double{x[static_cast<std::size_t>(i * k + l)]} * w[static_cast<std::size_t>(j * k + l)];
      }
      y.push_back(sum);
    }
  }
  return y;
}

}  // namespace

TEST_CASE("Int8Linear: odd shapes, every instruction set, bit-identical") {
  std::mt19937_64 generator(test_seed());
  for (const auto& [m, n, k] : {std::tuple{1, 1, 1},
                                {1, 49, 3},
                                {2, 7, 65},
                                {5, 130, 33},
                                {8, 48, 64},
                                {9, 97, 127},
                                {17, 200, 256},
                                {33, 64, 300}}) {
    std::vector<float> x = random_floats(generator, m * k);
    const std::vector<float> w = random_floats(generator, n * k);
    const std::vector<float> bias = random_floats(generator, n);
    for (std::int64_t i = 0; i < m; i += 2) x[static_cast<std::size_t>(i * k + k / 2)] *= 40.0f;
    const std::vector<double> want = exact(x, w, bias, m, n, k);
    std::vector<float> first;
    for (const IsaInfo& isa : instruction_sets()) {
      if (!isa.available) continue;
      Context context({.isa = isa.name});
      const auto layer = Int8Linear::quantize(context, view(w, n, k), view(bias, 1, n));
      const std::vector<float> y = run(context, layer, x, m);
      INFO(isa.name << " " << m << "x" << n << "x" << k << " seed " << test_seed());
      if (first.empty()) first = y;
      CHECK((y == first));
      double error = 0;
      double power = 0;
      for (std::size_t i = 0; i < y.size(); ++i) {
        error += (y[i] - want[i]) * (y[i] - want[i]);
        power += want[i] * want[i];
      }
      CHECK(std::sqrt(error / power) < 0.03);
    }
  }
}

TEST_CASE("Int8Linear: a vocabulary of 49153 rows") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t n = 49153;
  const std::int64_t k = 64;
  const std::vector<float> w = random_floats(generator, n * k);
  const std::vector<float> x = random_floats(generator, 3 * k);
  const auto layer = Int8Linear::quantize(view(w, n, k));
  const std::vector<float> y = run(default_context(), layer, x, 3);
  const std::vector<double> want = exact(x, w, {}, 3, n, k);
  double worst = 0;
  for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::fabs(y[i] - want[i]));
  CHECK(worst < 0.6);
  CHECK(layer.memory_footprint() < static_cast<std::size_t>(n * k * 11 / 10 + n * 16));
}

TEST_CASE("Int8Linear: types in and out, strided and unaligned memory") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 7;
  const std::int64_t n = 50;
  const std::int64_t k = 77;
  const std::vector<float> w = random_floats(generator, n * k);
  const std::vector<float> xf = random_floats(generator, m * k);
  std::vector<bfloat16> xb;
  std::vector<float> x;  // exactly the values of xb
  for (const float v : xf) {
    xb.emplace_back(v);
    x.push_back(static_cast<float>(xb.back()));
  }
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    INFO(isa.name);
    Context context({.isa = isa.name});
    const auto layer = Int8Linear::quantize(context, view(w, n, k));
    const std::vector<float> y = run(context, layer, x, m);

    std::vector<float> from_bf16(y.size());
    layer.forward(context, view(xb, m, k), MatrixView<float>(from_bf16.data(), m, n));
    CHECK((from_bf16 == y));
    std::vector<float16> to_half(y.size());
    layer.forward(context, view(xb, m, k), MatrixView<float16>(to_half.data(), m, n));
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(to_half[i].bits == float16(y[i]).bits);
    std::vector<bfloat16> to_bf16(y.size());
    layer.forward(context, view(x, m, k), MatrixView<bfloat16>(to_bf16.data(), m, n));
    for (std::size_t i = 0; i < y.size(); ++i) CHECK(to_bf16[i].bits == bfloat16(y[i]).bits);

    // Rows apart, both sides, the last at the very end of memory; no byte of the gaps is touched.
    const std::int64_t xs = k + 13;
    const std::int64_t ys = n + 5;
    const GuardedBuffer<float> wide_x(static_cast<std::size_t>((m - 1) * xs + k));
    for (std::int64_t i = 0; i < m; ++i) {
      std::memcpy(wide_x.data() + i * xs, &x[static_cast<std::size_t>(i * k)],
                  static_cast<std::size_t>(k) * 4);
    }
    const GuardedBuffer<float> wide_y(static_cast<std::size_t>((m - 1) * ys + n));
    layer.forward(context, MatrixView<const float>(wide_x.data(), m, k, xs),
                  MatrixView<float>(wide_y.data(), m, n, ys));
    for (std::int64_t i = 0; i < m; ++i) {
      CHECK(std::memcmp(wide_y.data() + i * ys, &y[static_cast<std::size_t>(i * n)],
                        static_cast<std::size_t>(n) * 4) == 0);
      if (i + 1 < m) CHECK(std::isnan(wide_y[static_cast<std::size_t>(i * ys + n)]));
    }

    // One row repeated by stride 0; rows in reverse by a negative stride.
    std::vector<float> repeated(static_cast<std::size_t>(2 * n));
    layer.forward(context, MatrixView<const float>(x.data(), 2, k, 0),
                  MatrixView<float>(repeated.data(), 2, n));
    CHECK(std::equal(repeated.begin(), repeated.begin() + n, repeated.begin() + n));
    std::vector<float> reversed(y.size());
    layer.forward(context, MatrixView<const float>(x.data() + (m - 1) * k, m, k, -k),
                  MatrixView<float>(reversed.data(), m, n));
    CHECK(std::equal(reversed.begin(), reversed.begin() + n, y.end() - n));

    // Every misalignment of the activations.
    std::vector<std::byte> raw(static_cast<std::size_t>(k) * 2 + 64);
    for (std::size_t shift = 0; shift < 64; shift += 2) {
      std::memcpy(raw.data() + shift, xb.data(), static_cast<std::size_t>(k) * 2);
      std::vector<float> row(static_cast<std::size_t>(n));
      layer.forward(context, ConstAnyMatrix(raw.data() + shift, DType::bfloat16, 1, k, k),
                    MatrixView<float>(row.data(), 1, n));
      CHECK(std::equal(row.begin(), row.end(), y.begin()));
    }
  }
}

TEST_CASE("Int8Linear: nothing to do, and K = 0 gives the bias") {
  const std::vector<float> bias = {1.0f, -2.0f, 0.5f};
  const auto no_inputs =
      Int8Linear::quantize(MatrixView<const float>(nullptr, 3, 0), view(bias, 1, 3));
  std::vector<float> y(6, kNaN);
  no_inputs.forward(MatrixView<const float>(nullptr, 2, 0), MatrixView<float>(y.data(), 2, 3));
  CHECK(y == std::vector<float>{1.0f, -2.0f, 0.5f, 1.0f, -2.0f, 0.5f});

  const std::vector<float> w = {1, 2, 3, 4, 5, 6};
  const auto layer = Int8Linear::quantize(view(w, 3, 2), view(bias, 1, 3));
  layer.forward(MatrixView<const float>(nullptr, 0, 2), MatrixView<float>(nullptr, 0, 3));
  const auto no_outputs = Int8Linear::quantize(MatrixView<const float>(nullptr, 0, 2));
  const std::vector<float> x = {1, 2};
  no_outputs.forward(view(x, 1, 2), MatrixView<float>(nullptr, 1, 0));
  const Int8Linear empty;
  empty.forward(MatrixView<const float>(nullptr, 0, 0), MatrixView<float>(nullptr, 0, 0));
  CHECK(empty.in_features() == 0);
  CHECK(empty.memory_footprint() == 0);
}

TEST_CASE("Int8Linear: NaN, infinities and huge values") {
  for (const IsaInfo& isa : instruction_sets()) {
    if (!isa.available) continue;
    INFO(isa.name);
    Context context({.isa = isa.name});
    const std::vector<float> w = {1.0f, -2.0f, 0.5f, 3.0f, 0.25f, 1.0f};  // [2, 3]
    for (const Outliers outliers : {Outliers::per_call, Outliers::per_row, Outliers::calibrated}) {
      for (const float threshold : {6.0f, 0.0f}) {
        INFO("outliers " << static_cast<int>(outliers) << " threshold " << threshold);
        Int8Options options{.threshold = threshold, .outliers = outliers};
        const std::vector<std::int64_t> last = {2};
        if (outliers == Outliers::calibrated && threshold > 0) options.keep_columns = last;
        const auto layer = Int8Linear::quantize(context, view(w, 2, 3), {}, options);
        // A NaN makes its own row NaN and no other.
        const std::vector<float> y = run(context, layer, {1, kNaN, 2, 1, 2, 3}, 2);
        CHECK(std::isnan(y[0]));
        CHECK(std::isnan(y[1]));
        CHECK(y[2] == Approx(-1.5f).margin(0.05));
        CHECK(y[3] == Approx(6.5f).margin(0.05));
        // Infinities take the float path, as in floating point.
        const std::vector<float> z = run(context, layer, {1, kInf, 2, 1, -2, 3}, 2);
        CHECK(z[0] == -kInf);
        CHECK(z[1] == kInf);
        CHECK(z[2] == Approx(6.5f).margin(0.06));
      }
    }
    // |x| up to 3e38 in bf16: no overflow on the way.
    const std::vector<bfloat16> x = {bfloat16(3e38f), bfloat16(1.0f), bfloat16(-1e38f)};
    const std::vector<float> half = {0.5f, 0.25f, 0.5f};
    for (const float threshold : {6.0f, 0.0f}) {
      const auto layer =
          Int8Linear::quantize(context, view(half, 1, 3), {}, {.threshold = threshold});
      std::vector<float> y(1);
      layer.forward(context, view(x, 1, 3), MatrixView<float>(y.data(), 1, 1));
      CHECK(y[0] == Approx(1e38f).epsilon(0.02));
      std::vector<float16> overflow(1);
      layer.forward(context, view(x, 1, 3), MatrixView<float16>(overflow.data(), 1, 1));
      CHECK(overflow[0].bits == 0x7C00);  // fp16 has no such number
    }
    // Weights with a NaN or Inf: that output is NaN, the others are not touched.
    const std::vector<float> bad = {1, kNaN, 1, 1, kInf, 1, 1, 1, 1};
    const std::vector<float> y =
        run(context, Int8Linear::quantize(context, view(bad, 3, 3)), {1, 1, 1}, 1);
    CHECK(std::isnan(y[0]));
    CHECK(std::isnan(y[1]));
    CHECK(y[2] == Approx(3.0f).epsilon(0.01));
  }
}

TEST_CASE("Int8Linear: check_finite reports instead") {
  const std::vector<float> w = {1, 2, 3, 4};
  const std::vector<float> bad = {1, 2, kInf, 4};
  CHECK(message_of([&] { (void)Int8Linear::quantize(view(bad, 2, 2), {}, {.check_finite = true}); },
                   ErrorCode::not_finite)
            .find("output 1") != std::string::npos);
  const auto layer = Int8Linear::quantize(view(w, 2, 2), {}, {.check_finite = true});
  std::vector<float> y(4, 7.0f);
  for (const float value : {kNaN, kInf}) {
    const std::vector<float> x = {1, 2, value, 4};
    const std::string message =
        message_of([&] { layer.forward(view(x, 2, 2), MatrixView<float>(y.data(), 2, 2)); },
                   ErrorCode::not_finite);
    CHECK(message.find("row 1") != std::string::npos);
    CHECK(y == std::vector<float>(4, 7.0f));  // nothing was written
  }
}

TEST_CASE("outliers per row: a row's result does not depend on its neighbours") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 21;
  const std::int64_t n = 60;
  const std::int64_t k = 130;
  std::vector<float> x =
      random_floats(generator, m * k, 2.2f);  // outliers in many rows and columns
  const std::vector<float> w = random_floats(generator, n * k);
  const std::vector<float> bias = random_floats(generator, n);
  const std::vector<std::int64_t> kept = {4, 77};
  for (const bool keep : {false, true}) {
    const Int8Options options{.outliers = Outliers::per_row,
                              .keep_columns = keep ? std::span<const std::int64_t>(kept)
                                                   : std::span<const std::int64_t>()};
    const auto layer = Int8Linear::quantize(view(w, n, k), view(bias, 1, n), options);
    const std::vector<float> all = run(default_context(), layer, x, m);
    for (std::int64_t first = 0; first < m; ++first) {
      for (const std::int64_t count :
           {std::int64_t{1}, std::min<std::int64_t>(3, m - first), m - first}) {
        const std::vector<float> part(x.begin() + first * k, x.begin() + (first + count) * k);
        const std::vector<float> y = run(default_context(), layer, part, count);
        CHECK(std::equal(y.begin(), y.end(), all.begin() + first * n));
      }
    }
  }
  // The paper's choice does depend on them; that is why per_row exists.
  const auto per_call = Int8Linear::quantize(view(w, n, k), view(bias, 1, n));
  const std::vector<float> all = run(default_context(), per_call, x, m);
  const std::vector<float> one = run(default_context(), per_call, {x.begin(), x.begin() + k}, 1);
  CHECK_FALSE(std::equal(one.begin(), one.end(), all.begin()));
}

TEST_CASE("kept columns: weights in half precision, found outliers beside them") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 9;
  const std::int64_t n = 70;
  const std::int64_t k = 96;
  std::vector<float> x = random_floats(generator, m * k);
  std::vector<float> w = random_floats(generator, n * k);
  for (std::int64_t i = 0; i < m; ++i) {
    x[static_cast<std::size_t>(i * k + 10)] *= 100.0f;
    x[static_cast<std::size_t>(i * k + 50)] *= 100.0f;
  }
  const std::vector<double> want = exact(x, w, {}, m, n, k);
  const auto error = [&](const std::vector<std::int64_t>& keep, float threshold,
                         Outliers outliers) {
    const auto layer = Int8Linear::quantize(
        view(w, n, k), {}, {.threshold = threshold, .outliers = outliers, .keep_columns = keep});
    const std::vector<float> y = run(default_context(), layer, x, m);
    double sum = 0;
    for (std::size_t i = 0; i < y.size(); ++i) sum += (y[i] - want[i]) * (y[i] - want[i]);
    return std::sqrt(sum / static_cast<double>(y.size()));
  };
  const double none = error({}, 0.0f, Outliers::per_call);
  const double found = error({}, 6.0f, Outliers::per_call);
  const double one_kept = error({10}, 6.0f, Outliers::per_call);
  const double kept = error({10, 50}, 6.0f, Outliers::per_call);
  INFO(none << " " << found << " " << one_kept << " " << kept);
  CHECK(found < none);
  CHECK(one_kept < found);
  CHECK(kept < one_kept);
  CHECK(kept < 0.3);
  CHECK(error({10, 50}, 6.0f, Outliers::calibrated) <= kept * 1.05);
  CHECK(error({10}, 6.0f, Outliers::calibrated) > one_kept);  // column 50 is not searched for

  const auto layer =
      Int8Linear::quantize(view(w, n, k), {}, {.keep_columns = std::vector<std::int64_t>{10, 50}});
  CHECK(layer.kept_weights()[3] ==
        static_cast<float>(float16(w[static_cast<std::size_t>(k + 50)])));
  std::vector<float> back(static_cast<std::size_t>(n * k));
  layer.dequantize(MatrixView<float>(back.data(), n, k));
  CHECK(back[10] == static_cast<float>(float16(w[10])));
  CHECK(back[11] == Approx(w[11]).margin(0.02));
  // From codes and kept weights: the same layer.
  const std::vector<float> kept_weights = layer.kept_weights();
  const auto codes = layer.codes();
  const auto again =
      Int8Linear::from_codes(view(codes, n, k), layer.absmax(), {},
                             {.keep_columns = layer.keep_columns()}, view(kept_weights, n, 2));
  CHECK((run(default_context(), again, x, m) == run(default_context(), layer, x, m)));
  // A kept weight beyond fp16's range: all kept weights in bf16.
  w[10] = 1e6f;
  const auto wide =
      Int8Linear::quantize(view(w, n, k), {}, {.keep_columns = std::vector<std::int64_t>{10}});
  CHECK(wide.kept_weights()[0] == static_cast<float>(bfloat16(1e6f)));
}

TEST_CASE("llm_int8_matmul: the paper's matmul, outlier weights in half precision") {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 5;
  const std::int64_t n = 33;
  const std::int64_t k = 80;
  std::vector<float> x = random_floats(generator, m * k);
  for (std::int64_t i = 0; i < m; ++i)
    x[static_cast<std::size_t>(i * k + 7)] = 50.0f + static_cast<float>(i);
  const std::vector<float> w = random_floats(generator, n * k);
  std::vector<float> y(static_cast<std::size_t>(m * n));
  llm_int8_matmul(view(x, m, k), view(w, n, k), MatrixView<float>(y.data(), m, n));
  const std::vector<double> want = exact(x, w, {}, m, n, k);
  for (std::size_t i = 0; i < y.size(); ++i) CHECK(y[i] == Approx(want[i]).margin(0.7));
  const auto layer =
      Int8Linear::quantize(view(w, n, k), {}, {.keep_columns = std::vector<std::int64_t>{7}});
  CHECK((run(default_context(), layer, x, m) == y));
}

TEST_CASE("activation scale per tensor: every row by the largest absmax") {
  const std::vector<float> w = {1.0f, 1.0f};
  const std::vector<float> x = {1.0f, 0.3f, 127.0f, 0.0f};
  const auto layer = Int8Linear::quantize(
      view(w, 1, 2), {}, {.threshold = 0.0f, .activation_scale = ActivationScale::per_tensor});
  const std::vector<float> y = run(default_context(), layer, x, 2);
  CHECK(y[0] == Approx(1.0f));  // 0.3 is below half a step
  CHECK(y[1] == Approx(127.0f));
}

}  // namespace kvant::test
