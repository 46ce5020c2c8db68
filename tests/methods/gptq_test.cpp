// GPTQ against auto-gptq 0.7.1 and a float64 run of the paper's algorithm, and what must hold for
// any second moments.

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "kvant/io/tensor_file.hpp"
#include "kvant/methods/gptq.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/random.hpp"

namespace {

using kvant::Context;
using kvant::DType;
using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::methods::Gptq;
using kvant::methods::GptqOptions;
using kvant::methods::GramMatrix;
using kvant::methods::GroupCodes;
using kvant::methods::OutputError;
using kvant::test::code_of;
using kvant::test::data_path;
using kvant::test::normals;

struct Golden {
  Golden()
      : file(data_path("linear_quantizers/gptq.safetensors")),
        w(file.matrix<float>("W")),
        gram(w.cols()) {
    const auto x8 = file.matrix<std::int8_t>("X8");
    std::vector<float> x(static_cast<std::size_t>(x8.size()));
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(x8.data()[i]) / 8.0f;
    gram.observe(context, MatrixView<const float>(x.data(), x8.rows(), x8.cols()));
  }
  Context context;
  kvant::io::SafeTensors file;
  MatrixView<const float> w;
  GramMatrix gram;
};

GptqOptions options_of(const nlohmann::json& golden) {
  GptqOptions options;
  options.scheme.bits = golden["bits"];
  options.scheme.symmetric = golden["sym"];
  const std::int64_t group = golden["group_size"];
  options.scheme.group = group == -1 ? 0 : group;
  options.scheme.scale_type = DType::float32;
  options.act_order = golden["desc_act"];
  options.static_groups = golden["static_groups"];
  options.damp = golden["percdamp"];
  return options;
}

double error_of(Golden& golden, const GroupCodes& codes) {
  std::vector<float> values(codes.codes.size());
  const MatrixView<float> view(values.data(), codes.outputs, codes.inputs);
  codes.dequantize(view);
  return OutputError(golden.context, golden.gram).sum(golden.context, golden.w, view);
}

}  // namespace

TEST_CASE("GPTQ: codes, scales, zero points and errors as auto-gptq has them") {
  Golden golden;
  const nlohmann::json cases = kvant::test::read_json("linear_quantizers/gptq.json")["cases"];
  for (const nlohmann::json& expected : cases) {
    const std::string name = expected["name"];
    CAPTURE(name);
    const GptqOptions options = options_of(expected);
    const GroupCodes codes = Gptq(golden.gram, options).quantize(golden.context, golden.w);
    const auto expected_codes = golden.file.matrix<std::uint8_t>(name + ".codes");
    std::int64_t different = 0;
    std::int64_t far = 0;
    for (std::int64_t i = 0; i < expected_codes.size(); ++i) {
      const int apart = std::abs(codes.codes[static_cast<std::size_t>(i)] -
                                 expected_codes.data()[static_cast<std::size_t>(i)]);
      different += apart != 0;
      far += apart > 1;
    }
    const double allowed = options.scheme.bits == 8 ? 0.005 : 0.001;
    CHECK(static_cast<double>(different) <= allowed * static_cast<double>(expected_codes.size()));
    // 8 bits: a tie that the peer's fp32 and double decide otherwise moves what follows.
    const bool eight = options.scheme.bits == 8;
    CHECK(far <= (eight ? 4 : 0));
    const auto scales = golden.file.matrix<float>(name + ".scales");
    const auto zeros = golden.file.matrix<std::uint8_t>(name + ".zeros");
    REQUIRE(scales.size() == static_cast<std::int64_t>(codes.scales.size()));
    for (std::size_t i = 0; i < codes.scales.size(); ++i) {
      REQUIRE(std::fabs(codes.scales[i] - scales.data()[i]) <=
              (eight ? 1e-3f : 1e-5f) * scales.data()[i]);
      REQUIRE(codes.zero_points[i] == zeros.data()[i]);
    }
    if (golden.file.contains(name + ".g_idx")) {
      REQUIRE(codes.group_of == golden.file.values<std::int32_t>(name + ".g_idx"));
    }
    const double error = error_of(golden, codes);
    const double peers = expected["error_gptq"];
    CHECK(std::fabs(error - peers) <= (eight ? 2e-3 : 1e-3) * peers);
    kvant::methods::GroupScheme scheme = options.scheme;
    const GroupCodes nearest = round_to_nearest(golden.w, scheme);
    const double rtn = expected["error_rtn"];
    CHECK(std::fabs(error_of(golden, nearest) - rtn) <= 1e-3 * rtn);
    CHECK(error < rtn);
  }
}

TEST_CASE("GPTQ: any number of threads, and outputs by themselves, give the same codes") {
  Golden golden;
  const Gptq method(golden.gram, {.scheme = {.group = 64}, .act_order = true});
  const GroupCodes all = method.quantize(golden.context, golden.w);
  Context single({.threads = 1});
  CHECK(method.quantize(single, golden.w).codes == all.codes);
  const GroupCodes some =
      method.quantize(golden.context, MatrixView<const float>(golden.w.row_data(37), 3, 256));
  for (std::size_t i = 0; i < some.codes.size(); ++i) {
    REQUIRE(some.codes[i] == all.codes[37 * 256 + i]);
  }
}

TEST_CASE("GPTQ: with inputs that know nothing of each other it is rounding to nearest") {
  Context context;
  std::vector<float> moments(48 * 48);
  for (std::size_t i = 0; i < 48; ++i) moments[i * 49] = 3.0f;
  const std::vector<float> w = normals(20 * 48, 5);
  const MatrixView<const float> view(w.data(), 20, 48);
  for (const std::int64_t group : {0, 16, 32}) {
    const GptqOptions options{.scheme = {.group = group}};
    const GroupCodes codes = Gptq(GramMatrix(moments, 48, 1), options).quantize(context, view);
    const GroupCodes nearest = round_to_nearest(view, options.scheme);
    CHECK(codes.codes == nearest.codes);
    CHECK(codes.scales == nearest.scales);
    CHECK(codes.zero_points == nearest.zero_points);
  }
}

TEST_CASE("GPTQ: dead inputs, moments that are not positive definite, mistakes") {
  Context context;
  const std::vector<float> w = normals(8 * 40, 6);
  const MatrixView<const float> view(w.data(), 8, 40);
  GramMatrix gram(40);
  std::vector<float> x = normals(4 * 40, 7);  // fewer rows than features
  for (std::size_t r = 0; r < 4; ++r) x[r * 40 + 9] = 0.0f;
  gram.observe(context, MatrixView<const float>(x.data(), 4, 40));
  const Gptq method(gram, {.scheme = {.group = 20}});
  CHECK(method.dead_inputs() == 1);
  CHECK(method.notes() == "1 of 40 inputs were always 0");
  const GroupCodes codes = method.quantize(context, view);
  for (std::size_t r = 0; r < 8; ++r) {
    CHECK(codes.codes[r * 40 + 9] == codes.zero_points[r * 2]);
  }
  // Without damping four rows cannot tell 40 features apart.
  const Gptq raised(gram, {.scheme = {.group = 20}, .damp = 0});
  CHECK(raised.damp() > 0);
  CHECK(raised.notes().find("damping was raised from 0") == 0);

  CHECK(code_of([&] { Gptq(gram, {.scheme = {.bits = 5}}); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { Gptq(gram, {.scheme = {.group = -1}}); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { Gptq(gram, {.damp = -1}); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] {
          static_cast<void>(method.quantize(context, MatrixView<const float>(w.data(), 8, 39)));
        }) == ErrorCode::shape_mismatch);
  std::vector<float> odd = w;
  odd[45] = NAN;
  CHECK(code_of([&] {
          static_cast<void>(method.quantize(context, MatrixView<const float>(odd.data(), 8, 40)));
        }) == ErrorCode::not_finite);
  x[50] = INFINITY;
  CHECK(code_of([&] { gram.observe(context, MatrixView<const float>(x.data(), 4, 40)); }) ==
        ErrorCode::not_finite);
  CHECK(code_of([&] { gram.observe(context, MatrixView<const float>(x.data(), 4, 39)); }) ==
        ErrorCode::shape_mismatch);
}
