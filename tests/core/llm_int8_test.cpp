// The normative LLM.int8() of kvant::core against the compiled one, bit for bit: every option, type
// and edge.

#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "kvant/core/llm_int8.hpp"
#include "kvant/llm_int8.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"

namespace kvant::test {
namespace {

constexpr std::int64_t kM = 6;
constexpr std::int64_t kN = 37;
constexpr std::int64_t kK = 131;

template <class T>
std::vector<T> narrow(const std::vector<float>& values) {
  std::vector<T> result;
  for (const float v : values) result.push_back(static_cast<T>(v));
  return result;
}

struct Options {
  const char* name;
  Int8Options options;
};

std::vector<Options> all_options() {
  static const std::vector<std::int64_t> kKept{0, 5, 77};
  return {{"default", {}},
          {"per row", {.outliers = Outliers::per_row}},
          {"no outliers", {.threshold = 0}},
          {"low threshold", {.threshold = 1.5f}},
          {"calibrated", {.outliers = Outliers::calibrated, .keep_columns = kKept}},
          {"kept and found", {.keep_columns = kKept}},
          {"kept, per row", {.outliers = Outliers::per_row, .keep_columns = kKept}},
          {"one scale", {.activation_scale = ActivationScale::per_tensor}},
          {"bitsandbytes", {.arithmetic = Arithmetic::bitsandbytes}},
          {"bitsandbytes, 0", {.threshold = 0, .arithmetic = Arithmetic::bitsandbytes}}};
}

/// Outlier features at 5 and 40, and a weight that fp16 does not hold.
std::vector<float> activations(std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::vector<float> x = random_floats(generator, kM * kK);
  for (std::int64_t m = 0; m < kM; m += 2) x[static_cast<std::size_t>(m * kK + 40)] = 9.0f;
  x[5] = -60.0f;
  return x;
}

template <class X, class Y>
void compare_all(const std::vector<float>& x_values, bool large_weight, bool with_bias) {
  std::mt19937_64 generator(test_seed());
  std::vector<float> w_values = random_floats(generator, kN * kK, 0.1f);
  if (large_weight) w_values[40] = 1e5f;
  const std::vector<X> x = narrow<X>(x_values);
  const std::vector<bfloat16> w = narrow<bfloat16>(w_values);
  const std::vector<float> bias_values = random_floats(generator, kN);
  const MatrixView<const X> x_view(x.data(), kM, kK);
  const MatrixView<const bfloat16> w_view(w.data(), kN, kK);
  const ConstAnyMatrix bias =
      with_bias ? ConstAnyMatrix(MatrixView<const float>(bias_values.data(), 1, kN))
                : ConstAnyMatrix();
  for (const Options& each : all_options()) {
    INFO(each.name << ", x " << to_string(dtype_of<X>) << ", y " << to_string(dtype_of<Y>));
    Matrix<Y> mine(kM, kN);
    Matrix<Y> theirs(kM, kN);
    core::llm_int8_matmul(x_view, w_view, mine, bias, each.options);
    llm_int8_matmul(x_view, w_view, theirs, bias, each.options);
    for (std::size_t i = 0; i < mine.values().size(); ++i) {
      const auto a = static_cast<float>(mine.values()[i]);
      const auto b = static_cast<float>(theirs.values()[i]);
      CAPTURE(i, a, b);
      REQUIRE(((a == b && std::signbit(a) == std::signbit(b)) || (std::isnan(a) && std::isnan(b))));
    }
  }
}

}  // namespace

TEST_CASE("core: LLM.int8() has the compiled library's bits") {
  compare_all<float, float>(activations(1), false, false);
  compare_all<float, bfloat16>(activations(2), false, true);
  compare_all<float16, float16>(activations(3), true, true);
  compare_all<bfloat16, bfloat16>(activations(4), true, false);
}

TEST_CASE("core: LLM.int8() with NaN, infinities and zero rows") {
  std::vector<float> x = activations(5);
  x[3] = std::numeric_limits<float>::quiet_NaN();
  x[static_cast<std::size_t>(kK + 9)] = std::numeric_limits<float>::infinity();
  std::fill_n(x.begin() + 2 * kK, kK, 0.0f);
  std::fill_n(x.begin() + 3 * kK, kK, 1e-41f);
  compare_all<float, float>(x, false, true);
}

TEST_CASE("core: LLM.int8() of nothing, and what it refuses") {
  const std::vector<float> values(12, 1.0f);
  const MatrixView<const float> x(values.data(), 3, 4);
  Matrix<float> y(3, 3);
  core::llm_int8_matmul(MatrixView<const float>(values.data(), 0, 4), x,
                        Matrix<float>(0, 3).view());
  const MatrixView<const float> no_inputs(values.data(), 3, 0);
  const ConstAnyMatrix bias(MatrixView<const float>(values.data(), 1, 3));
  core::llm_int8_matmul(no_inputs, no_inputs, y, bias);
  CHECK(y.values() == std::vector<float>(9, 1.0f));
  const auto code = [&](ConstAnyMatrix w, AnyMatrix out, const Int8Options& options = {}) {
    return code_of([&] { core::llm_int8_matmul(x, w, out, {}, options); });
  };
  CHECK(code(x, y) == ErrorCode::ok);
  CHECK(code(MatrixView<const float>(values.data(), 3, 3), y) == ErrorCode::shape_mismatch);
  CHECK(code(x, Matrix<float>(3, 2)) == ErrorCode::shape_mismatch);
  CHECK(code(x, y, {.threshold = -1}) == ErrorCode::invalid_argument);
  CHECK(code(x, y, {.outliers = Outliers::calibrated}) == ErrorCode::invalid_argument);
  CHECK(code(x, y, {.arithmetic = Arithmetic::exact}) == ErrorCode::unsupported);
  // y may not be x, and may be where the weights or the bias are.
  std::vector<float> square{10, 1, 1, 20};
  const std::vector<float> weights{1, 2, 3, 4};
  const MatrixView<float> in_place(square.data(), 2, 2);
  const MatrixView<const float> w(weights.data(), 2, 2);
  CHECK(code_of([&] { core::llm_int8_matmul(in_place, w, in_place); }) ==
        ErrorCode::invalid_argument);
  std::vector<float> overwritten = weights;
  const MatrixView<float> over(overwritten.data(), 2, 2);
  Matrix<float> expected(2, 2);
  core::llm_int8_matmul(in_place, w, expected);
  core::llm_int8_matmul(in_place, over, over);
  CHECK(overwritten == expected.values());
  // Weights of no outputs, with an outlier feature.
  const MatrixView<const float> no_outputs(weights.data(), 0, 2);
  Matrix<float> nothing(2, 0);
  core::llm_int8_matmul(in_place, no_outputs, nothing);
  llm_int8_matmul(in_place, no_outputs, nothing);
  std::vector<float> broken = values;
  broken[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(message_of(
            [&] {
              core::llm_int8_matmul(MatrixView<const float>(broken.data(), 3, 4), x, y, {},
                                    {.check_finite = true});
            },
            ErrorCode::not_finite) == "llm_int8_matmul: row 1 of x has NaN or Inf");
}

}  // namespace kvant::test
