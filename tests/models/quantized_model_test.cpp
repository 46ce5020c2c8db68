// quantize, calibrate, freeze: optimum-quanto's network, batch by batch.

#include "kvant/models/quantized_model.hpp"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"

namespace {

using kvant::Context;
using kvant::ErrorCode;
using kvant::MatrixView;
using kvant::WeightFormat;
using kvant::models::ActivationCodes;
using kvant::models::Calibration;
using kvant::models::LayerQuantization;
using kvant::models::QuantizedModel;
using kvant::test::code_of;
using View = MatrixView<const float>;

/// Linear(32, 48), ReLU, Linear(48, 24), ReLU, Linear(24, 10) without bias.
struct Network {
  explicit Network(bool codes_between = false)
      : file(kvant::test::data_path("linear_quantizers/quanto.safetensors")),
        between(codes_between) {
    for (const char* name : {"0", "2", "4"}) {
      const std::string at = std::string("net.") + name;
      std::vector<float> bias;
      if (file.contains(at + ".bias")) bias = file.values<float>(at + ".bias");
      model.add(name, file.matrix<float>(at + ".weight"), bias);
    }
  }
  /// Outputs of the three layers.
  std::vector<std::vector<float>> run(const std::string& input) {
    const View x = file.matrix<float>(input);
    std::vector<std::vector<float>> outputs;
    std::vector<float> h(x.data(), x.data() + x.size());
    std::optional<float> scale;
    for (std::size_t i = 0; i < 3; ++i) {
      const std::int64_t inputs = i == 0 ? 32 : i == 1 ? 48 : 24;
      const std::int64_t width = i == 0 ? 48 : i == 1 ? 24 : 10;
      std::vector<float> y(static_cast<std::size_t>(x.rows() * width));
      model.forward(context, i, View(h.data(), x.rows(), inputs),
                    MatrixView<float>(y.data(), x.rows(), width), scale);
      outputs.push_back(y);
      if (between) scale = model.output_scale(i);
      h = y;
      for (float& value : h) value = std::max(value, 0.0f);
    }
    return outputs;
  }
  Context context;
  kvant::io::SafeTensors file;
  QuantizedModel model;
  bool between;
};

}  // namespace

TEST_CASE("QuantizedModel: scales after each batch, and outputs, as optimum-quanto has them") {
  const nlohmann::json golden = kvant::test::read_json("linear_quantizers/quanto.json");
  int cases = 0;
  for (const nlohmann::json& c : golden["cases"]) {
    if (c["op"] != "calibrated_network") continue;
    const std::string name = c["name"];
    CAPTURE(name);
    ++cases;
    const bool between = !c["calibration"].value("streamline", true);
    Network network(between);
    network.model.quantize({.weights = WeightFormat::int8_row,
                            .activations = ActivationCodes::int8,
                            .quantize_outputs = between});
    {
      const Calibration calibration(network.model, c["calibration"].value("momentum", 0.9f));
      for (std::size_t batch = 0; batch < 4; ++batch) {
        CAPTURE(batch);
        network.run("net.calib" + std::to_string(batch));
        for (std::size_t i = 0; i < 3; ++i) {
          const auto& scales = c["scales_after_each_batch"][batch][std::to_string(2 * i)];
          const float input = scales[0];
          const float output = scales[1];
          CHECK(std::fabs(network.model.input_scale(i) - input) <= 1e-5f * input);
          CHECK(std::fabs(network.model.output_scale(i) - output) <= 1e-5f * output);
        }
      }
    }
    network.model.freeze(network.context);
    const auto outputs = network.run("net.test");
    for (std::size_t i = 0; i < 3; ++i) {
      const std::string at = name + "." + std::to_string(2 * i) + ".out";
      int apart = 0;
      if (between) {
        const auto codes = network.file.values<std::int8_t>(at);
        REQUIRE(codes.size() == outputs[i].size());
        for (std::size_t k = 0; k < codes.size(); ++k) {
          const auto code = std::lround(outputs[i][k] / network.model.output_scale(i));
          CHECK(std::labs(code - codes[k]) <= 1);
          apart += code != codes[k];
        }
        CHECK(apart <= 2);
      } else {
        const auto values = network.file.values<float>(at);
        REQUIRE(values.size() == outputs[i].size());
        for (std::size_t k = 0; k < values.size(); ++k) {
          CHECK(std::fabs(outputs[i][k] - values[k]) <= 1e-5f);
        }
      }
    }
    // Codes, scales of rows and of activations; biases in float.
    CHECK(network.model.footprint() ==
          (48 * 32 + 24 * 48 + 10 * 24) + 4 * (48 + 24 + 10) + 8 * 3 + 4 * (48 + 24));
  }
  CHECK(cases == 3);
}

TEST_CASE("QuantizedModel: weights of 2, 4 and 8 bits beside optimum-quanto's") {
  const nlohmann::json golden = kvant::test::read_json("linear_quantizers/quanto_networks.json");
  const kvant::io::SafeTensors file(
      kvant::test::data_path("linear_quantizers/quanto_networks.safetensors"));
  int equal = 0;
  for (const nlohmann::json& c : golden["cases"]) {
    const std::string name = c["name"];
    CAPTURE(name);
    const std::string weights = c["weights"];
    const std::string activations = c["activations"];
    Network network;
    network.model.quantize({.weights = weights == "int2"   ? WeightFormat::int2_group
                                       : weights == "int4" ? WeightFormat::int4_group
                                       : weights == "fp8"  ? WeightFormat::fp8_row
                                                           : WeightFormat::int8_row,
                            .activations = activations == "none"   ? ActivationCodes::none
                                           : activations == "int8" ? ActivationCodes::int8
                                                                   : ActivationCodes::fp8});
    // quanto's codes of 2 and 4 bits have a shift, a real number, where kvant's formats have a zero
    // point among the codes: what follows from them is about as near to floats, not the same.
    const bool same_codes = weights == "fp8" || weights == "int8";
    if (activations != "none") {
      const Calibration calibration(network.model);
      for (std::size_t batch = 0; batch < 4; ++batch) {
        CAPTURE(batch);
        network.run("net.calib" + std::to_string(batch));
        for (std::size_t i = 0; i < 3; ++i) {
          const float scale = c["input_scales_after_each_batch"][batch][i];
          if (!same_codes && i > 0) continue;
          CHECK(std::fabs(network.model.input_scale(i) - scale) <= 1e-5f * scale);
        }
      }
    }
    network.model.freeze(network.context);
    const std::vector<float> mine = network.run("net.test").back();
    const auto theirs = file.values<float>(name + ".out");
    const auto exact = network.file.values<float>("net.float_out");
    REQUIRE(mine.size() == theirs.size());
    double error = 0;
    double power = 0;
    for (std::size_t i = 0; i < mine.size(); ++i) {
      if (same_codes) CHECK(std::fabs(mine[i] - theirs[i]) <= 1e-5f);
      error += std::pow(static_cast<double>(mine[i] - exact[i]), 2);
      power += std::pow(static_cast<double>(exact[i]), 2);
    }
    CHECK(std::sqrt(error / power) <= 1.15 * c["relative_error"].get<double>());
    equal += same_codes;
  }
  CHECK(equal == 5);
}

TEST_CASE("QuantizedModel: any format of weights, with activations in float or in codes") {
  Network floats;
  floats.model.quantize({.weights = std::nullopt});
  const auto exact = floats.run("net.test").back();
  const auto expected = floats.file.values<float>("net.float_out");
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK(std::fabs(exact[i] - expected[i]) < 1e-5f);
  for (const WeightFormat format :
       {WeightFormat::int8_row, WeightFormat::int4_group, WeightFormat::int2_group,
        WeightFormat::fp8_row, WeightFormat::nf4}) {
    for (const ActivationCodes codes :
         {ActivationCodes::none, ActivationCodes::int8, ActivationCodes::fp8}) {
      CAPTURE(to_string(format), static_cast<int>(codes));
      Network network;
      network.model.quantize({.weights = format, .activations = codes});
      if (codes != ActivationCodes::none) {
        const Calibration calibration(network.model);
        for (int batch = 0; batch < 4; ++batch) network.run("net.calib" + std::to_string(batch));
      }
      const auto before = network.run("net.test");
      network.model.freeze(network.context);
      const auto after = network.run("net.test");
      CHECK(before == after);  // frozen codes are what was computed before
      double error = 0;
      double power = 0;
      for (std::size_t i = 0; i < exact.size(); ++i) {
        error += std::pow(static_cast<double>(after.back()[i] - exact[i]), 2);
        power += std::pow(static_cast<double>(exact[i]), 2);
      }
      CHECK(std::sqrt(error / power) < (describe(format).bits > 4   ? 0.2
                                        : describe(format).bits > 2 ? 0.4
                                                                    : 1.5));
    }
  }
}

TEST_CASE("QuantizedModel: rules by name, training before freezing, and mistakes") {
  Network network;
  QuantizedModel& model = network.model;
  CHECK(code_of([&] { model.freeze(network.context); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { model.quantize({}, {{"5*", {}}}); }) == ErrorCode::invalid_argument);
  model.quantize({.activations = ActivationCodes::int8}, {{"4", {.weights = std::nullopt}}});
  // Activations without a scale are an error, not a guess.
  std::string message;
  CHECK(code_of([&] { model.freeze(network.context); }, &message) == ErrorCode::invalid_argument);
  CHECK(message.find("\"0\"") != std::string::npos);
  CHECK(code_of([&] { network.run("net.test"); }) == ErrorCode::invalid_argument);
  {
    const Calibration calibration(model);
    CHECK(code_of([&] { const Calibration second(model); }) == ErrorCode::invalid_argument);
    network.run("net.calib0");
  }
  CHECK(std::isnan(model.input_scale(2)));
  const auto before = network.run("net.test");
  model.weights(0)(3, 5) += 1.0f;  // a step of training
  const auto trained = network.run("net.test");
  CHECK(before != trained);
  model.freeze(network.context);
  CHECK(network.run("net.test") == trained);
  CHECK(code_of([&] { static_cast<void>(model.weights(0)); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { const Calibration late(model); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { model.quantize({}); }) == ErrorCode::invalid_argument);
  CHECK(code_of([&] { model.add("6", View(), {}); }) == ErrorCode::invalid_argument);
  Network other;
  CHECK(code_of([&] { other.model.add("0", View()); }) == ErrorCode::invalid_argument);
  const float odd[] = {1.0f, NAN};
  CHECK(code_of([&] { other.model.add("odd", View(odd, 1, 2)); }) == ErrorCode::not_finite);
  const float bias[] = {1.0f, 2.0f};
  CHECK(code_of([&] { other.model.add("odd", View(bias, 1, 2), bias); }) ==
        ErrorCode::shape_mismatch);
}

TEST_CASE(
    "QuantizedModel: a freeze that fails leaves all as it was; nothing is lost to a batch of "
    "zeros") {
  Network network;
  QuantizedModel& model = network.model;
  CHECK(code_of([&] { model.quantize({.weights = WeightFormat::q4_k}); }) ==
        ErrorCode::unsupported);
  model.quantize({.activations = ActivationCodes::int8});
  const std::vector<float> zeros(2 * 32);
  std::vector<float> y(2 * 48);
  {
    const Calibration calibration(model);
    std::string message;
    CHECK(code_of(
              [&] {
                model.forward(network.context, 0, View(zeros.data(), 2, 32), {y.data(), 2, 48});
              },
              &message) == ErrorCode::invalid_argument);
    CHECK(message.find("layer \"0\" are not calibrated") != std::string::npos);
    network.run("net.calib0");
    const float scale = model.input_scale(0);
    model.forward(network.context, 0, View(zeros.data(), 2, 32), {y.data(), 2, 48});
    CHECK(model.input_scale(0) == scale);
    CHECK(code_of([&] { model.freeze(network.context); }) == ErrorCode::invalid_argument);
  }
  const auto before = network.run("net.test");
  const float kept = model.weights(2)(1, 1);
  model.weights(2)(1, 1) = NAN;
  CHECK(code_of([&] { model.freeze(network.context); }) == ErrorCode::not_finite);
  CHECK_FALSE(model.frozen());
  model.weights(2)(1, 1) = kept;
  CHECK(network.run("net.test") == before);
  const std::size_t floats = model.footprint();
  model.freeze(network.context);
  CHECK(network.run("net.test") == before);
  CHECK(model.footprint() < floats / 2);
  CHECK(model.size() == 3);
  CHECK(model.name(1) == "2");
}
