// quantize_per_tensor_dynamic's parameters and codes, and the mask of fake quantization, against
// torch (tests/data/linear_quantizers/torch.json).

#include <cmath>
#include <string>
#include <vector>

#include "kvant/error_metrics.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/linear_quantizer.hpp"
#include "kvant/torch_quantize.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"

namespace {

const nlohmann::json& cases() {
  static const nlohmann::json data = kvant::test::read_json("linear_quantizers/torch.json");
  return data["cases"];
}

const kvant::io::SafeTensors& arrays() {
  static const kvant::io::SafeTensors file(
      kvant::test::data_path("linear_quantizers/torch.safetensors"));
  return file;
}

}  // namespace

TEST_CASE("torch quantize_per_tensor_dynamic: scale in double, zero point, codes") {
  int replayed = 0;
  for (const nlohmann::json& c : cases()) {
    if (c["op"] != "quantize_per_tensor_dynamic") continue;
    const auto name = c["name"].get<std::string>();
    CAPTURE(name);
    std::vector<float> values;
    kvant::MatrixView<const float> x;
    if (c.contains("input")) {
      x = arrays().matrix<float>(c["input"].get<std::string>());
    } else {
      values = kvant::test::floats(c["values"]);
      x = {values.data(), 1, static_cast<std::int64_t>(values.size())};
    }
    const bool is_signed = c["dtype"] == "qint8";
    const auto chosen = kvant::torch::choose_dynamic_params(
        x, is_signed ? kvant::DType::int8 : kvant::DType::uint8, c["reduce_range"].get<bool>());
    CHECK(chosen.scale == c["scale"].get<double>());
    CHECK(chosen.zero_point == c["zero_point"].get<int>());
    const std::vector<std::int32_t> codes = kvant::quantize(x, chosen.params).unpack();
    const auto check = [&](const auto& want) {
      REQUIRE(want.size() == codes.size());
      for (std::size_t i = 0; i < codes.size(); ++i) {
        CAPTURE(i);
        REQUIRE(codes[i] == want[i]);
      }
    };
    if (is_signed) {
      check(arrays().values<std::int8_t>(name + ".q"));
    } else {
      check(arrays().values<std::uint8_t>(name + ".q"));
    }
    ++replayed;
  }
  CHECK(replayed == 24);
}

TEST_CASE("torch fake quantize: where the gradient passes") {
  int replayed = 0;
  for (const nlohmann::json& c : cases()) {
    const auto name = c["name"].get<std::string>();
    if (!arrays().contains(name + ".mask")) continue;
    CAPTURE(name);
    const bool per_channel = c["op"] == "fake_quantize_per_channel_affine";
    const auto x = arrays().matrix<float>(c["input"].get<std::string>());
    const int low = c["qmin"].get<int>();
    kvant::QuantParams params;
    params.scheme = (low < 0 ? kvant::torch_qint8_affine : kvant::torch_quint8_affine)
                        .with_range(low, c["qmax"].get<int>())
                        .with_order(kvant::RoundOrder::kvant);
    params.scale = kvant::test::floats(c[per_channel ? "scales" : "scale"]);
    params.zero_point = kvant::test::ints(c[per_channel ? "zero_points" : "zero_point"]);
    params.block = per_channel ? kvant::per_channel(c["axis"].get<int>()) : kvant::per_tensor;
    std::vector<std::uint8_t> mask(static_cast<std::size_t>(x.size()));
    kvant::torch::fake_quantize_mask(
        x, params, kvant::MatrixView<std::uint8_t>(mask.data(), x.rows(), x.cols()));
    const auto want = arrays().values<std::uint8_t>(name + ".mask");
    REQUIRE(want.size() == mask.size());
    for (std::size_t i = 0; i < mask.size(); ++i) {
      CAPTURE(i, x.data()[i]);
      if (std::isfinite(x.data()[i])) CHECK(mask[i] == want[i]);
      if (std::isnan(x.data()[i])) CHECK(mask[i] == 0);
    }
    ++replayed;
  }
  CHECK(replayed == 32);
}

TEST_CASE("torch rules refuse what they cannot do") {
  const std::vector<float> values = {1, NAN};
  const kvant::MatrixView<const float> x(values.data(), 1, 2);
  CHECK_THROWS_AS(kvant::torch::choose_dynamic_params(x, kvant::DType::int8), kvant::Error);
  CHECK_THROWS_AS(kvant::torch::choose_dynamic_params(x, kvant::DType::int4), kvant::Error);
  std::vector<std::uint8_t> mask(3);
  kvant::QuantParams params;
  params.scale = {1};
  CHECK_THROWS_AS(kvant::torch::fake_quantize_mask(
                      x, params, kvant::MatrixView<std::uint8_t>(mask.data(), 1, 3)),
                  kvant::Error);
}

TEST_CASE("torch fake quantization with learned scales: its gradients") {
  std::vector<float> x(24);
  std::vector<float> grad(24);
  for (int i = 0; i < 24; ++i) {
    x[static_cast<std::size_t>(i)] = static_cast<float>(i) * 0.37f - 4;
    grad[static_cast<std::size_t>(i)] = static_cast<float>(i) * 0.1f - 1;
  }
  const kvant::MatrixView<const float> view(x.data(), 4, 6);
  const kvant::MatrixView<const float> along(grad.data(), 4, 6);
  kvant::Matrix<float> grad_x(4, 6);
  kvant::QuantParams params;
  params.scheme = kvant::int4_affine;
  params.scale = {0.25f};
  params.zero_point = {3};
  // _fake_quantize_learnable_per_tensor_affine and its per-channel form.
  const auto one = kvant::torch::learned_step_gradients(view, params, along, grad_x, 0.5);
  CHECK(std::fabs(one.scale[0] - 35.78f) < 1e-4f);
  CHECK(std::fabs(one.zero_point[0] + 0.6375f) < 1e-5f);
  kvant::Matrix<std::uint8_t> mask(4, 6);
  kvant::torch::fake_quantize_mask(view, params, mask);
  for (std::size_t i = 0; i < 24; ++i) {
    CHECK(grad_x.values()[i] == (mask.values()[i] != 0 ? grad[i] : 0.0f));
  }
  params.block = kvant::per_row;
  params.scale = {0.25f, 0.5f, 0.1f, 0.3f};
  params.zero_point = {3, 0, -2, 1};
  const auto rows = kvant::torch::learned_step_gradients(view, params, along, grad_x, 1);
  const std::vector<float> scales = {37.552f, 0.166f, 19.69f, 37.8f};
  const std::vector<float> zeros = {0.85f, 0.0f, -0.22f, -1.89f};
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(std::fabs(rows.scale[i] - scales[i]) < 1e-4f);
    CHECK(std::fabs(rows.zero_point[i] - zeros[i]) < 1e-5f);
  }
}

TEST_CASE("learned scales: descending their gradients fits a scale to the values") {
  std::vector<float> x;
  for (int i = 0; i < 64; ++i) x.push_back(std::sin(0.7f * static_cast<float>(i)));
  const kvant::MatrixView<const float> view(x.data(), 1, 64);
  kvant::QuantParams params;
  params.scheme = kvant::int4_symmetric;
  params.scale = {0.5f};  // far too wide: the best is about 1 / 7
  const auto error = [&] { return kvant::compare(view, kvant::fake_quantize(view, params)).mse; };
  const double before = error();
  kvant::Matrix<float> along(1, 64);
  for (int step = 0; step < 200; ++step) {
    const kvant::Matrix<float> y = kvant::fake_quantize(view, params);
    for (std::int64_t i = 0; i < 64; ++i) {
      along(0, i) = 2 * (y(0, i) - view(0, i)) / 64;
    }
    const auto gradients = kvant::torch::learned_step_gradients(view, params, along, along, 1);
    params.scale[0] = std::max(params.scale[0] - 0.1f * gradients.scale[0], 1e-3f);
  }
  CHECK(error() < before / 6);
  CHECK(params.scale[0] < 0.2f);
}
