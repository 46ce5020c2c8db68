// Observers of distributions: torch's histogram, percentiles, least squares, entropy, and quanto's
// momentum; batches in any order, and merged.

#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "kvant/core.hpp"
#include "kvant/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"

namespace {

using kvant::BlockRange;
using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::QuantParams;
using kvant::core::AbsmaxMomentumObserver;
using kvant::core::EntropyObserver;
using kvant::core::HistogramObserver;
using kvant::core::MseObserver;
using kvant::core::PercentileObserver;
using kvant::test::code_of;
using kvant::test::data_path;
using kvant::test::read_json;

std::vector<float> normals(std::int64_t count, std::uint64_t seed) {
  std::mt19937_64 generator(seed);
  return kvant::test::random_floats(generator, count);
}

MatrixView<const float> row_of(const std::vector<float>& values) {
  return {values.data(), 1, static_cast<std::int64_t>(values.size())};
}

/// Mean squared error of quantizing with parameters.
double error_of(const std::vector<float>& values, const QuantParams& params) {
  const auto back = kvant::core::dequantize<float>(kvant::core::quantize(row_of(values), params));
  double sum = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double d = static_cast<double>(values[i]) - static_cast<double>(back.data()[i]);
    sum += d * d;
  }
  return sum / static_cast<double>(values.size());
}

}  // namespace

TEST_CASE("HistogramObserver: scales, zero points and bins as torch finds them") {
  const kvant::io::SafeTensors file(data_path("linear_quantizers/torch.safetensors"));
  int cases = 0;
  const nlohmann::json golden = read_json("linear_quantizers/torch.json");
  for (const nlohmann::json& c : golden["cases"]) {
    if (c["op"] != "observer" || c["kind"] != "Histogram") continue;
    CAPTURE(c["name"].get<std::string>());
    ++cases;
    HistogramObserver observer;
    for (const nlohmann::json& input : c["inputs"]) {
      observer.observe(row_of(file.values<float>(input.get<std::string>())));
    }
    const bool is_signed = c["dtype"] == "qint8";
    const bool symmetric = c["scheme"] == "symmetric";
    const bool reduced = c["reduce_range"];
    kvant::QuantScheme scheme =
        symmetric ? (is_signed ? kvant::torch_qint8_symmetric : kvant::torch_quint8_symmetric)
                  : (is_signed ? kvant::torch_qint8_affine : kvant::torch_quint8_affine);
    if (reduced && !symmetric) {
      scheme = scheme.with_range(is_signed ? -64 : 0, is_signed ? 63 : 127);
    }
    const auto& bins = observer.blocks().front();
    CHECK(bins.min() == c["min_val"].get<float>());
    CHECK(bins.max() == c["max_val"].get<float>());
    if (reduced && symmetric) continue;  // the search is the same; the scheme is the other test's
    const QuantParams params = observer.params(scheme);
    const float scale = c["scale"][0];
    CHECK(std::fabs(params.scale[0] - scale) <= 0.01f * scale);
    const int zero = params.zero_point.empty() ? 0 : params.zero_point[0];
    CHECK(std::abs(zero - c["zero_point"][0].get<int>()) <= 1);
    if (!c.contains("bins")) continue;
    const auto expected = file.values<float>(c["name"].get<std::string>() + ".histogram");
    REQUIRE(expected.size() == bins.bins().size());
    double sum = 0;
    double apart = 0;
    for (std::size_t i = 0; i < expected.size(); ++i) {
      sum += bins.bins()[i];
      apart += std::fabs(bins.bins()[i] - static_cast<double>(expected[i]));
    }
    CHECK(sum == static_cast<double>(file.values<float>("in.hbatch0").size()));
    CHECK(apart <= 8);  // counts at the edge of a bin
  }
  CHECK(cases == 9);
}

TEST_CASE("PercentileObserver: the range holds the share, to a bin") {
  std::vector<float> values(10000);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i) / 10000.0f - 0.25f;  // -0.25 to 0.75
  }
  values[17] = 1000.0f;  // one that is odd
  PercentileObserver observer(0.98);
  observer.observe(row_of(values));
  const BlockRange range = observer.chosen_range();
  CHECK(std::fabs(range.min[0] + 0.24f) < 0.003f);
  CHECK(std::fabs(range.max[0] - 0.74f) < 0.008f);
  CHECK(observer.range().max[0] == 1000.0f);
  PercentileObserver all(1.0);
  all.observe(row_of(values));
  CHECK(all.chosen_range().min[0] == -0.25f);
  CHECK(all.chosen_range().max[0] == 1000.0f);
  CHECK(code_of([] { PercentileObserver(0.0); }) == ErrorCode::invalid_argument);
  CHECK(code_of([] { PercentileObserver(1.5); }) == ErrorCode::invalid_argument);
}

TEST_CASE("observers of distributions: less error than the extremes where there are outliers") {
  std::vector<float> values = normals(20000, 3);
  values[5] = 60.0f;
  kvant::core::MinMaxObserver extremes;
  extremes.observe(row_of(values));
  const double plain = error_of(values, extremes.params(kvant::int8_symmetric));
  // The outlier's own error is part of what MSE weighs; the others cut it off for the rest.
  std::vector<float> rest = values;
  rest.erase(rest.begin() + 5);
  const double plain_rest = error_of(rest, extremes.params(kvant::int8_symmetric));
  MseObserver mse;
  mse.observe(row_of(values));
  CHECK(error_of(values, mse.params(kvant::int8_symmetric)) <= plain);
  CHECK(error_of(values, mse.params(kvant::int4_symmetric)) <=
        error_of(values, extremes.params(kvant::int4_symmetric)));
  EntropyObserver entropy;
  entropy.observe(row_of(values));
  const BlockRange range = entropy.chosen_range();
  CHECK(range.max[0] > 3.0f);
  CHECK(range.max[0] < 30.0f);
  CHECK(error_of(rest, entropy.params(kvant::int8_symmetric)) < plain_rest / 4);
  PercentileObserver percentile(0.999);
  percentile.observe(row_of(values));
  CHECK(error_of(rest, percentile.params(kvant::int8_symmetric)) < plain_rest / 4);
}

TEST_CASE("observers of distributions: batches in any order, and merged, have the same bits") {
  const std::vector<float> a = normals(6 * 48, 1);
  const std::vector<float> b = normals(6 * 48, 2);
  const MatrixView<const float> batch_a(a.data(), 6, 48);
  const MatrixView<const float> batch_b(b.data(), 6, 48);
  const auto same = [](const BlockRange& x, const BlockRange& y) {
    return x.min == y.min && x.max == y.max;
  };
  for (const kvant::BlockShape block : {kvant::per_tensor, kvant::per_row, kvant::per_group(16)}) {
    PercentileObserver forwards(0.95, block);
    forwards.observe(batch_a);
    forwards.observe(batch_b);
    PercentileObserver one(0.95, block);
    PercentileObserver other(0.95, block);
    one.observe(batch_a);
    other.observe(batch_b);
    other.merge(one);
    CHECK(same(forwards.chosen_range(), other.chosen_range()));
    MseObserver mse(block);
    MseObserver back(block);
    mse.observe(batch_a);
    mse.observe(batch_b);
    back.observe(batch_b);
    back.observe(batch_a);
    CHECK(same(mse.chosen_range(kvant::int8_symmetric), back.chosen_range(kvant::int8_symmetric)));
    EntropyObserver entropy(block);
    EntropyObserver reversed(block);
    entropy.observe(batch_a);
    entropy.observe(batch_b);
    reversed.observe(batch_b);
    reversed.observe(batch_a);
    CHECK(same(entropy.chosen_range(), reversed.chosen_range()));
  }
  PercentileObserver rows(0.9, kvant::per_row);
  rows.observe(batch_a);
  CHECK(code_of([&] { rows.observe(MatrixView<const float>(a.data(), 3, 96)); }) ==
        ErrorCode::shape_mismatch);
  HistogramObserver left;
  HistogramObserver right;
  left.observe(batch_a);
  right.observe(batch_b);
  left.merge(right);
  double sum = 0;
  for (const double count : left.blocks()[0].bins()) sum += count;
  CHECK(std::fabs(sum - 2 * 6 * 48) < 1e-6);
}

TEST_CASE("observers of distributions: what is not finite is an error, or left out") {
  std::vector<float> values = normals(100, 4);
  values[40] = std::numeric_limits<float>::quiet_NaN();
  values[41] = std::numeric_limits<float>::infinity();
  PercentileObserver strict;
  CHECK(code_of([&] { strict.observe(row_of(values)); }) == ErrorCode::not_finite);
  PercentileObserver lax(1.0, kvant::per_tensor, kvant::NonFinite::ignore);
  lax.observe(row_of(values));
  CHECK(std::isfinite(lax.chosen_range().max[0]));
  MseObserver unseen(kvant::per_row);
  CHECK(code_of([&] { static_cast<void>(unseen.params(kvant::int8_symmetric)); }) ==
        ErrorCode::invalid_argument);
  HistogramObserver constant;
  constant.observe(row_of(std::vector<float>(10, 2.5f)));
  CHECK(constant.params(kvant::int8_symmetric).scale[0] > 0);
}

TEST_CASE("AbsmaxMomentumObserver: the scales of quanto's calibration, batch by batch") {
  const kvant::io::SafeTensors file(data_path("linear_quantizers/quanto.safetensors"));
  const nlohmann::json golden = read_json("linear_quantizers/quanto.json");
  for (const nlohmann::json& c : golden["cases"]) {
    if (c["op"] != "calibrated_network") continue;
    AbsmaxMomentumObserver observer;
    int batch = 0;
    for (const nlohmann::json& scales : c["scales_after_each_batch"]) {
      observer.observe(file.matrix<float>("net.calib" + std::to_string(batch++)));
      CHECK(std::fabs(observer.scales()[0] - scales["0"][0].get<float>()) <= 2e-9f);
    }
    CHECK(batch == 4);
  }
  AbsmaxMomentumObserver fresh;
  CHECK(code_of([&] { static_cast<void>(fresh.params(kvant::int8_symmetric)); }) ==
        ErrorCode::invalid_argument);
  CHECK(code_of([] { AbsmaxMomentumObserver(1.0f); }) == ErrorCode::invalid_argument);
}
