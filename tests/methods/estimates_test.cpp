// What estimate_methods says before, beside what the methods make of it.

#include "kvant/methods/estimates.hpp"

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "kvant/kvant.hpp"
#include "kvant/methods/awq.hpp"
#include "kvant/methods/gptq.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/random.hpp"

namespace {

using kvant::Context;
using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::methods::estimate_methods;
using kvant::methods::EstimateOptions;
using kvant::methods::GramMatrix;
using kvant::methods::GroupCodes;
using kvant::methods::InputStatistics;
using kvant::methods::MethodEstimates;
using kvant::methods::OutputError;
using kvant::test::code_of;
using View = MatrixView<const float>;

constexpr std::int64_t kRows = 400;
constexpr std::int64_t kFeatures = 192;
constexpr std::int64_t kOutputs = 80;

/// Activations that share a part, so that features tell of each other, and what a layer makes.
struct EstimatedLayer {
  /// @param large  factors of features 3, 40 and 77, in every `every`th row
  explicit EstimatedLayer(float large, std::int64_t every = 1)
      : x(static_cast<std::size_t>(kRows * kFeatures)), gram(kFeatures), statistics(kFeatures) {
    std::mt19937_64 generator(7);
    w = kvant::test::random_floats(generator, kOutputs * kFeatures);
    const auto own = kvant::test::random_floats(generator, kRows * kFeatures);
    const auto shared = kvant::test::random_floats(generator, kRows * 8);
    for (std::int64_t r = 0; r < kRows; ++r) {
      for (std::int64_t c = 0; c < kFeatures; ++c) {
        const auto at = static_cast<std::size_t>(r * kFeatures + c);
        x[at] = 0.5f * own[at] + shared[static_cast<std::size_t>(r * 8 + c % 8)];
        if ((c == 3 || c == 40 || c == 77) && r % every == 0) x[at] *= large;
      }
    }
    gram.observe(context, rows());
    statistics.observe(context, rows());
  }
  [[nodiscard]] View rows() const { return {x.data(), kRows, kFeatures}; }
  [[nodiscard]] View weights() const { return {w.data(), kOutputs, kFeatures}; }

  [[nodiscard]] MethodEstimates estimates(const EstimateOptions& options = {}) {
    return estimate_methods(context, {weights()}, statistics, &gram, options);
  }

  /// LLM.int8() of x / scales, w * scales: mean over rows of error over power, in dB.
  [[nodiscard]] double int8(float threshold, const std::vector<float>& scales = {}) {
    std::vector<float> scaled_x = x;
    std::vector<float> scaled_w = w;
    for (std::size_t i = 0; i < x.size() && !scales.empty(); ++i) {
      scaled_x[i] /= scales[i % kFeatures];
    }
    for (std::size_t i = 0; i < w.size() && !scales.empty(); ++i) {
      scaled_w[i] *= scales[i % kFeatures];
    }
    std::vector<float> y(static_cast<std::size_t>(kRows * kOutputs));
    const auto layer =
        kvant::Int8Linear::quantize(context, View(scaled_w.data(), kOutputs, kFeatures), {},
                                    {.threshold = threshold,
                                     .keep_columns = threshold > 0 ? statistics.outlier_features()
                                                                   : std::vector<std::int64_t>()});
    layer.forward(context, View(scaled_x.data(), kRows, kFeatures),
                  MatrixView<float>(y.data(), kRows, kOutputs));
    double sum = 0;
    for (std::int64_t r = 0; r < kRows; ++r) {
      double error = 0;
      double power = 0;
      for (std::int64_t n = 0; n < kOutputs; ++n) {
        double exact = 0;
        for (std::int64_t c = 0; c < kFeatures; ++c) {
          exact += static_cast<double>(rows()(r, c)) * static_cast<double>(weights()(n, c));
        }
        const double got = y[static_cast<std::size_t>(r * kOutputs + n)];
        error += (got - exact) * (got - exact);
        power += exact * exact;
      }
      sum += error / power;
    }
    return -10 * std::log10(sum / kRows);
  }

  /// Of the outputs with these codes of w * scales.
  [[nodiscard]] double four_bits(const GroupCodes& codes, const std::vector<float>& scales = {}) {
    std::vector<float> values(w.size());
    const MatrixView<float> view(values.data(), kOutputs, kFeatures);
    codes.dequantize(view);
    for (std::size_t i = 0; i < values.size() && !scales.empty(); ++i) {
      values[i] /= scales[i % kFeatures];
    }
    const OutputError measure(context, gram);
    return 10 *
           std::log10(measure.sum(context, weights(), {}) / measure.sum(context, weights(), view));
  }

  Context context;
  std::vector<float> x, w;
  GramMatrix gram;
  InputStatistics statistics;
};

/// Within so many dB.
bool near(double estimate, double real, double decibels) {
  return std::fabs(estimate - real) < decibels;
}

}  // namespace

TEST_CASE("estimates: int8 with outliers in all rows, in few, and without") {
  struct Case {
    const char* name;
    float large;
    std::int64_t every;
  };
  for (const Case& c :
       {Case{"none", 1.0f, 1}, Case{"all rows", 40.0f, 1}, Case{"few", 60.0f, 25}}) {
    EstimatedLayer layer(c.large, c.every);
    const MethodEstimates estimates = layer.estimates();
    const double plain = layer.int8(0.0f);
    const double apart = layer.int8(6.0f);
    const double smooth =
        layer.int8(0.0f, kvant::methods::smooth_scales({layer.weights()}, layer.statistics));
    CAPTURE(c.name, estimates.int8, plain, estimates.llm_int8, apart, estimates.smoothquant,
            smooth);
    CHECK(near(estimates.int8, plain, 3.5));
    CHECK(near(estimates.llm_int8, apart, 3.5));
    CHECK(near(estimates.smoothquant, smooth, 3.5));
  }
}

TEST_CASE("estimates: 4 bits rounded, by AWQ and by GPTQ") {
  for (const float large : {1.0f, 20.0f}) {
    EstimatedLayer layer(large);
    const MethodEstimates estimates = layer.estimates();
    const EstimateOptions options;
    const auto found = kvant::methods::search_scales(layer.context, {layer.weights()},
                                                     layer.statistics, layer.gram, options.scheme);
    const double nearest =
        layer.four_bits(kvant::methods::round_to_nearest(layer.weights(), options.scheme));
    const double awq = nearest + 10 * std::log10(found.error_before / found.error);
    const double gptq = layer.four_bits(
        kvant::methods::Gptq(layer.gram, {.scheme = options.scheme, .act_order = true})
            .quantize(layer.context, layer.weights()));
    CAPTURE(large, estimates.nearest, nearest, estimates.awq, awq, estimates.gptq, gptq);
    CHECK(near(estimates.nearest, nearest, 0.5));
    CHECK(near(estimates.awq, awq, 1.0));
    CHECK(near(estimates.gptq, gptq, 1.5));
    CHECK(estimates.gptq > estimates.nearest);

    // Without second moments the order of the methods stays.
    const MethodEstimates blind =
        estimate_methods(layer.context, {layer.weights()}, layer.statistics, nullptr);
    CAPTURE(blind.nearest, blind.awq);
    CHECK(near(blind.nearest, nearest, 3.0));
    CHECK((blind.awq - blind.nearest > 1) == (awq - nearest > 1));
    CHECK(std::isnan(blind.gptq));
  }
}

TEST_CASE("estimates: a part of the weights says what all say; layers that share an input") {
  EstimatedLayer layer(20.0f);
  const MethodEstimates all = layer.estimates();
  const MethodEstimates some = layer.estimates({.rows = 20});
  CHECK(near(all.nearest, some.nearest, 1.0));
  CHECK(near(all.gptq, some.gptq, 1.0));
  const View w = layer.weights();
  const View upper(w.data(), 30, kFeatures);
  const View lower(w.row_data(30), kOutputs - 30, kFeatures);
  const MethodEstimates parts =
      estimate_methods(layer.context, {upper, lower}, layer.statistics, &layer.gram);
  CHECK(parts.nearest == all.nearest);
  CHECK(parts.int8 == all.int8);
}

TEST_CASE("estimates: what is not known is NaN, what does not fit is an error") {
  EstimatedLayer layer(1.0f);
  const MethodEstimates none =
      estimate_methods(layer.context, {layer.weights()}, InputStatistics(kFeatures), nullptr);
  CHECK(std::isnan(none.int8));
  CHECK(std::isnan(none.nearest));
  const MethodEstimates fixed = layer.estimates({.smoothquant = false, .awq = false});
  CHECK(std::isnan(fixed.smoothquant));
  CHECK(std::isnan(fixed.awq));
  CHECK(!std::isnan(fixed.llm_int8));
  CHECK(!std::isnan(fixed.gptq));
  // Inputs that are always 0 make no outputs.
  InputStatistics zeros(kFeatures);
  const std::vector<float> x(kFeatures * 3);
  zeros.observe(layer.context, View(x.data(), 3, kFeatures));
  CHECK(std::isnan(estimate_methods(layer.context, {layer.weights()}, zeros, nullptr).int8));
  const auto code = [&](const InputStatistics& statistics, const GramMatrix& gram) {
    return code_of([&] {
      static_cast<void>(estimate_methods(layer.context, {layer.weights()}, statistics, &gram));
    });
  };
  CHECK(code(InputStatistics(7), layer.gram) == ErrorCode::shape_mismatch);
  CHECK(code(layer.statistics, GramMatrix(7)) == ErrorCode::shape_mismatch);
  CHECK(code_of([&] { static_cast<void>(layer.estimates({.scheme = {.bits = 5}})); }) ==
        ErrorCode::invalid_argument);
  layer.w[5] = NAN;
  CHECK(code_of([&] { static_cast<void>(layer.estimates()); }) == ErrorCode::not_finite);
}
