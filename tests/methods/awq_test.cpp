// AWQ's and SmoothQuant's searches, rounding with a search of ranges, and statistics of inputs.

#include "kvant/methods/awq.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"

namespace {

using kvant::Context;
using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::methods::GramMatrix;
using kvant::methods::GroupCodes;
using kvant::methods::GroupScheme;
using kvant::methods::InputStatistics;
using kvant::methods::OutputError;
using kvant::methods::RangeSearch;
using kvant::methods::round_to_nearest;
using kvant::test::code_of;
using kvant::test::normals;
using View = MatrixView<const float>;

/// 300 rows of 128 features, a few of which are large; and 40 outputs.
struct LayerWithOutliers {
  LayerWithOutliers()
      : x(normals(300 * 128, 11)), w(normals(40 * 128, 12)), gram(128), statistics(128) {
    for (std::size_t r = 0; r < 300; ++r) {
      for (const std::size_t c : {3u, 40u, 77u}) x[r * 128 + c] *= 30.0f;
    }
    gram.observe(context, View(x.data(), 300, 128));
    statistics.observe(context, View(x.data(), 300, 128));
  }
  [[nodiscard]] View weights() const { return {w.data(), 40, 128}; }
  double error(const GroupCodes& codes, const std::vector<float>& scales = {}) {
    std::vector<float> values(w.size());
    const MatrixView<float> view(values.data(), 40, 128);
    codes.dequantize(view);
    for (std::size_t i = 0; i < values.size() && !scales.empty(); ++i) values[i] /= scales[i % 128];
    return OutputError(context, gram).sum(context, weights(), view);
  }
  Context context;
  std::vector<float> x, w;
  GramMatrix gram;
  InputStatistics statistics;
};

}  // namespace

TEST_CASE("second moments: what errors of weights cost is what errors of outputs are") {
  LayerWithOutliers layer;
  const GroupCodes codes = round_to_nearest(layer.weights(), {.group = 32});
  std::vector<float> values(layer.w.size());
  codes.dequantize(MatrixView<float>(values.data(), 40, 128));
  double expected = 0;
  for (std::size_t r = 0; r < 300; ++r) {
    for (std::size_t n = 0; n < 40; ++n) {
      double sum = 0;
      for (std::size_t k = 0; k < 128; ++k) {
        sum +=
            static_cast<double>(layer.x[r * 128 + k]) *
            (static_cast<double>(layer.w[n * 128 + k]) - static_cast<double>(values[n * 128 + k]));
      }
      expected += sum * sum;
    }
  }
  CHECK(std::fabs(layer.error(codes) - expected) < 1e-3 * expected);
  // In halves, and merged.
  GramMatrix first(128);
  GramMatrix second(128);
  first.observe(layer.context, View(layer.x.data(), 100, 128));
  second.observe(layer.context, View(layer.x.data() + 100 * 128, 200, 128));
  first.merge(second);
  CHECK(first.rows() == 300);
  for (std::int64_t i = 0; i < 128; ++i) {
    CHECK(std::fabs(first.sums()(i, 5) - layer.gram.sums()(i, 5)) <=
          1e-5f * layer.gram.sums()(i, i));
    CHECK(layer.gram.sums()(i, 5) == layer.gram.sums()(5, i));
  }
}

TEST_CASE("second moments: of more features than a panel has, over batches of any size") {
  Context context;
  const std::vector<float> x = normals(700 * 601, 31);
  GramMatrix gram(601);
  gram.observe(context, View(x.data(), 1, 601));
  gram.observe(context, View(x.data() + 601, 699, 601));
  for (std::int64_t i = 0; i < 601; i += 37) {
    for (std::int64_t j = 0; j < 601; ++j) {
      double sum = 0;
      for (std::int64_t r = 0; r < 700; ++r) {
        sum += static_cast<double>(x[static_cast<std::size_t>(r * 601 + i)]) *
               static_cast<double>(x[static_cast<std::size_t>(r * 601 + j)]);
      }
      REQUIRE(std::fabs(static_cast<double>(gram.sums()(i, j)) - sum) < 1e-3);
    }
  }
}

TEST_CASE("AWQ: scaled inputs and clipped ranges each lose less, power 0 is rounding to nearest") {
  LayerWithOutliers layer;
  const GroupScheme scheme{.group = 32};
  const auto found =
      search_scales(layer.context, {layer.weights()}, layer.statistics, layer.gram, scheme);
  const double nearest = layer.error(round_to_nearest(layer.weights(), scheme));
  CHECK(std::fabs(found.error_before - nearest) <= 1e-3 * nearest);
  CHECK(found.ratio > 0);
  CHECK(found.error < 0.7 * nearest);
  std::vector<float> scaled = layer.w;
  for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] *= found.scales[i % 128];
  const View view(scaled.data(), 40, 128);
  CHECK(std::fabs(layer.error(round_to_nearest(view, scheme), found.scales) - found.error) <=
        1e-3 * found.error);
  const GroupCodes clipped = clip_and_round(view, layer.gram.divided_by(found.scales), scheme);
  CHECK(layer.error(clipped, found.scales) < found.error);
}

TEST_CASE("AWQ: codes and zero points of AutoAWQ, but for ranges that it does not extend to 0") {
  // Its fp16 arithmetic differs from fp32 in a few codes by one.
  const kvant::io::SafeTensors file(kvant::test::data_path("linear_quantizers/awq.safetensors"));
  const auto w16 = file.matrix<kvant::float16>("g32.W");
  std::vector<float> w(static_cast<std::size_t>(w16.size()));
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(w16.data()[i]);
  const GroupCodes codes = round_to_nearest(View(w.data(), w16.rows(), w16.cols()), {.group = 32});
  const auto expected = file.matrix<std::uint8_t>("g32.codes");  // [K, N]
  int different = 0;
  for (std::int64_t n = 0; n < w16.rows(); ++n) {
    for (std::int64_t k = 0; k < w16.cols(); ++k) {
      const int apart = codes.codes[static_cast<std::size_t>(n * w16.cols() + k)] - expected(k, n);
      CHECK(std::abs(apart) <= 1);
      different += apart != 0;
    }
  }
  CHECK(different <= 8);
}

TEST_CASE("rounding with a search: the norm that is searched gets smaller") {
  const std::vector<float> w = normals(16 * 256, 21);
  const View view(w.data(), 16, 256);
  const auto error = [&](RangeSearch search, double norm, bool symmetric) {
    const GroupCodes codes =
        round_to_nearest(view, {.bits = 3, .group = 64, .symmetric = symmetric}, search);
    std::vector<float> values(w.size());
    codes.dequantize(MatrixView<float>(values.data(), 16, 256));
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      sum += std::pow(std::fabs(static_cast<double>(w[i]) - static_cast<double>(values[i])), norm);
    }
    return sum;
  };
  for (const bool symmetric : {false, true}) {
    CHECK(error(RangeSearch::mse, 2.4, symmetric) < 0.9 * error(RangeSearch::none, 2.4, symmetric));
  }
  CHECK(error(RangeSearch::hqq, 0.7, false) <= error(RangeSearch::none, 0.7, false));
}

TEST_CASE("SmoothQuant: the factors of the paper") {
  LayerWithOutliers layer;
  const auto scales = smooth_scales({layer.weights()}, layer.statistics, 0.5);
  for (const std::int64_t c : {0, 3, 100}) {
    float weight = 0;
    for (std::int64_t r = 0; r < 40; ++r)
      weight = std::max(weight, std::fabs(layer.weights()(r, c)));
    const float expected = std::sqrt(layer.statistics.absmax(c) / weight);
    CHECK(std::fabs(scales[static_cast<std::size_t>(c)] - expected) < 1e-5f * expected);
  }
  CHECK(code_of([&] {
          static_cast<void>(smooth_scales({layer.weights()}, layer.statistics, 1.5));
        }) == ErrorCode::invalid_argument);
}

TEST_CASE("statistics of inputs: the same bits in any order, percentiles to a bin") {
  LayerWithOutliers layer;
  InputStatistics first(128);
  InputStatistics second(128);
  second.observe(layer.context, View(layer.x.data(), 123, 128));
  first.observe(layer.context, View(layer.x.data() + 123 * 128, 177, 128));
  first.merge(second);
  const InputStatistics& all = layer.statistics;
  CHECK(first.min == all.min);
  CHECK(first.max == all.max);
  CHECK(first.outliers == all.outliers);
  CHECK(first.histogram == all.histogram);
  CHECK(first.rows == 300);
  CHECK(first.outlier_rows == all.outlier_rows);
  CHECK(all.outlier_features() == std::vector<std::int64_t>{3, 40, 77});
  std::vector<float> sorted = layer.x;
  for (float& value : sorted) value = std::fabs(value);
  std::sort(sorted.begin(), sorted.end());
  for (const double share : {0.5, 0.9, 0.99}) {
    const float exact =
        sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size()))];
    CHECK(all.percentile(share) >= exact * 0.99f);
    CHECK(all.percentile(share) <= exact * 1.14f);
  }
  InputStatistics other(128, 5.0f);
  CHECK(code_of([&] { other.merge(all); }) == ErrorCode::invalid_argument);
  std::vector<float> odd = layer.x;
  odd[500] = NAN;
  const std::int64_t rows = first.rows;
  CHECK(code_of([&] { first.observe(layer.context, View(odd.data(), 300, 128)); }) ==
        ErrorCode::not_finite);
  CHECK(first.rows == rows);
}
