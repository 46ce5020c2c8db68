// Half-quadratic quantization with real shifts, beside optimum-quanto's.

#include "kvant/methods/hqq.hpp"

#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "kvant/linear_quantizer.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"

namespace {

using kvant::Context;
using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::QuantParams;
using kvant::methods::hqq_params;
using kvant::test::code_of;

double mean_error(MatrixView<const float> w, const QuantParams& params) {
  const kvant::Matrix<float> back = kvant::fake_quantize<float>(w, params);
  double sum = 0;
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) sum += std::fabs(w(r, c) - back(r, c));
  }
  return sum / static_cast<double>(w.size());
}

}  // namespace

TEST_CASE("HQQ: scales, shifts and codes as optimum-quanto has them") {
  const nlohmann::json golden = kvant::test::read_json("linear_quantizers/quanto.json");
  const kvant::io::SafeTensors file(kvant::test::data_path("linear_quantizers/quanto.safetensors"));
  Context context;
  int cases = 0;
  for (const nlohmann::json& c : golden["cases"]) {
    if (c["op"] != "hqq") continue;
    ++cases;
    const std::string name = c["name"];
    CAPTURE(name);
    const auto w = file.matrix<float>(c["input"].get<std::string>());
    const QuantParams start = kvant::choose_params(
        context, w, kvant::quanto_qint4, kvant::per_group(c["group_size"].get<std::int64_t>()));
    // Steps 19 and 20 gain less than quanto's fp32 mean of errors can tell: it stops before them.
    kvant::methods::HqqOptions options{
        .norm = c["lp_norm"], .beta = c["beta"], .kappa = c["kappa"], .iterations = 18};
    const QuantParams params = hqq_params(context, w, start, options);
    options.iterations = c["iters"];
    const QuantParams further = hqq_params(context, w, start, options);
    CHECK(mean_error(w, further) <= mean_error(w, params));
    const auto scale = file.values<float>(name + ".scale");
    const auto shift = file.values<float>(name + ".shift");
    REQUIRE(params.scale == scale);
    REQUIRE(params.shift.size() == shift.size());
    for (std::size_t i = 0; i < shift.size(); ++i) {
      CAPTURE(i);
      CHECK(std::fabs(params.shift[i] - shift[i]) <= 1e-6f);
      CHECK(std::fabs(further.shift[i] - shift[i]) <= 4e-6f);
    }
    const auto codes = kvant::quantize(context, w, params).unpack();
    const auto expected = file.values<std::uint8_t>(name + ".codes");
    REQUIRE(codes.size() == expected.size());
    int apart = 0;
    for (std::size_t i = 0; i < codes.size(); ++i) {
      CHECK(std::abs(codes[i] - expected[i]) <= 1);
      apart += codes[i] != expected[i];
    }
    CHECK(apart <= 2);  // of 4096: ties
    const double error = c["mean_abs_error"];
    CHECK(std::fabs(mean_error(w, params) - error) <= 1e-5 * error);
    CHECK(error < mean_error(w, start));
  }
  CHECK(cases == 1);
}

TEST_CASE("HQQ: short blocks, columns, no elements, and mistakes") {
  const kvant::io::SafeTensors file(kvant::test::data_path("linear_quantizers/quanto.safetensors"));
  const auto w = file.matrix<float>("W.f32");
  Context context;
  for (const kvant::BlockShape block : {kvant::per_tensor, kvant::per_row, kvant::per_column,
                                        kvant::per_group(100), kvant::per_block(5, 33)}) {
    CAPTURE(block.rows, block.cols);
    for (const kvant::QuantScheme& scheme : {kvant::quanto_qint4, kvant::quanto_qint2}) {
      const QuantParams start = kvant::choose_params(context, w, scheme, block);
      const QuantParams params = hqq_params(context, w, start);
      CHECK(params.scale == start.scale);
      CHECK(mean_error(w, params) <= mean_error(w, start));
      CHECK(hqq_params(context, w, start, {.iterations = 0}).shift == start.shift);
    }
  }
  const MatrixView<const float> nothing(nullptr, 0, 128);
  CHECK(hqq_params(context, nothing, kvant::choose_params(context, nothing, kvant::quanto_qint4))
            .shift.size() <= 1);
  const QuantParams start = kvant::choose_params(context, w, kvant::quanto_qint4);
  std::string message;
  CHECK(code_of(
            [&] {
              static_cast<void>(
                  hqq_params(context, w, kvant::choose_params(context, w, kvant::quanto_qint8)));
            },
            &message) == ErrorCode::invalid_argument);
  CHECK(message.find("quanto_qint8") != std::string::npos);
  for (const kvant::methods::HqqOptions& options : {kvant::methods::HqqOptions{.norm = 0},
                                                    {.norm = 1.5},
                                                    {.beta = 0},
                                                    {.kappa = 0.5},
                                                    {.iterations = -1}}) {
    CHECK(code_of([&] { static_cast<void>(hqq_params(context, w, start, options)); }) ==
          ErrorCode::invalid_argument);
  }
  std::vector<float> odd(w.data(), w.data() + w.size());
  odd[3] = NAN;
  CHECK(code_of([&] {
          static_cast<void>(
              hqq_params(context, MatrixView<const float>(odd.data(), w.rows(), w.cols()), start));
        }) == ErrorCode::not_finite);
  CHECK(code_of([&] {
          static_cast<void>(
              hqq_params(context, MatrixView<const float>(w.data(), 4, 16),
                         kvant::choose_params(context, w, kvant::quanto_qint4, kvant::per_row)));
        }) == ErrorCode::shape_mismatch);
}
