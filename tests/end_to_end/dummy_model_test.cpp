// DummyModel against golden data: bf16 logits and every layer's value exactly, fp32 to 2 ulp.

#include "../../examples/dummy_model.hpp"

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>

#include "support/catch.hpp"
#include "support/child_process.hpp"

namespace {

const std::filesystem::path kFolder = std::filesystem::path(KVANT_TEST_DATA) / "dummy_model";

template <class T>
std::vector<float> golden(const std::string& name) {
  const kvant::io::SafeTensors file(kFolder / "expected.safetensors");
  std::vector<float> result;
  for (const T value : file.values<T>(name)) result.push_back(static_cast<float>(value));
  return result;
}

std::vector<std::int64_t> input_ids() {
  return kvant::io::SafeTensors(kFolder / "expected.safetensors").values<std::int64_t>("input_ids");
}

/// Distance in units of the last place of float.
std::int64_t ulps(float a, float b) {
  const auto order = [](float value) {
    const auto bits = std::bit_cast<std::int32_t>(value);
    return std::int64_t{bits < 0 ? std::int32_t(0x80000000u) - bits : bits};
  };
  return std::abs(order(a) - order(b));
}

}  // namespace

TEST_CASE("dummy_model: logits and layers are the golden ones") {
  const dummy::DummyModel<float> model(kFolder / "model.safetensors");
  const auto half = model.cast<kvant::bfloat16>();
  std::vector<std::pair<std::string, std::vector<float>>> trace;
  const std::vector<float> logits = half.forward(input_ids(), &trace);
  CHECK(logits == golden<kvant::bfloat16>("logits.bfloat16"));
  for (const auto& [layer, values] : trace) {
    INFO(layer);
    CHECK(values == golden<kvant::bfloat16>("trace.bfloat16." + layer));
  }
  CHECK(model.cast<kvant::float16>().forward(input_ids()) ==
        golden<kvant::float16>("logits.float16"));
  const std::vector<float> exact = model.forward(input_ids());
  const std::vector<float> expected = golden<float>("logits.float32");
  REQUIRE(exact.size() == expected.size());
  double sum = 0;
  double largest = 0;
  for (std::size_t i = 0; i < exact.size(); ++i) {
    CHECK(ulps(exact[i], expected[i]) <= 2);
    const double difference = std::fabs(double{exact[i]} - double{logits[i]});
    sum += difference;
    largest = std::max(largest, difference);
  }
  CHECK(std::fabs(sum / 8 - 0.000997886) < 1e-7);
  CHECK(std::fabs(largest - 0.0016907453536987305) < 3e-7);
}

TEST_CASE("dummy_model: footprint, dtypes and independence of the copy") {
  const auto expected = nlohmann::json::parse(kvant::test::read_text(kFolder / "expected.json"));
  dummy::DummyModel<float> model(kFolder / "model.safetensors");
  auto half = model.cast<kvant::bfloat16>();
  const auto& footprint = expected.at("memory_footprint_bytes");
  CHECK(model.memory_footprint() == footprint.at("float32").get<std::size_t>());
  CHECK(half.memory_footprint() == footprint.at("bfloat16").get<std::size_t>());
  const std::vector<float> before = half.forward(input_ids());
  for (auto& p : model.parameters()) p.values.assign(p.values.size(), 0.0f);
  CHECK(half.forward(input_ids()) == before);
  const auto program = kvant::test::run_process(
      {std::string(KVANT_PROGRAM_DIR) + "/dummy_model", (kFolder / "model.safetensors").string()});
  CHECK(program.exit_code == 0);
  CHECK(program.out.find("float32 120 bytes, bfloat16 60 bytes") != std::string::npos);
  CHECK(kvant::test::run_process({std::string(KVANT_PROGRAM_DIR) + "/dummy_model", "/no/such"})
            .exit_code == 1);
}
