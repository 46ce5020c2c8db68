// Footprints: the published figures exactly, and real checkpoints against the sizes of their files.

#include <string>

#include "kvant/io/footprint.hpp"
#include "kvant/look/inspect.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/golden.hpp"

using kvant::DType;
using kvant::io::Footprint;
using kvant::io::footprint;
using kvant::io::ModelTensor;
using kvant::io::TensorRole;

TEST_CASE("footprint of flan-t5-small before and after quanto") {
  const auto golden = kvant::test::read_json("linear_quantizers/flan_t5.json");
  const auto quantized = golden.at("quantized").get<std::vector<std::string>>();
  std::vector<ModelTensor> tensors;
  for (const auto& parameter : golden.at("parameters")) {
    const auto name = parameter.at(0).get<std::string>();
    bool linear = false;
    for (const std::string& module : quantized) linear = linear || name == module + ".weight";
    tensors.push_back({name, DType::float32, parameter.at(1).get<std::vector<std::uint64_t>>(),
                       linear ? TensorRole::linear_weight : TensorRole::parameter});
  }
  const Footprint before = footprint(tensors);
  CHECK(before.total() == golden.at("bytes_fp32").get<std::uint64_t>());
  CHECK(static_cast<double>(before.total()) / 1e9 == 0.307844608);
  const Footprint after = footprint(tensors, kvant::io::kFootprintQuantoInt8);
  CHECK(after.total() == golden.at("bytes_after_freeze").get<std::uint64_t>());
  CHECK(static_cast<double>(after.total()) / 1e9 == 0.12682868);
  const auto& parts = golden.at("breakdown_after");
  CHECK(after.scales == parts.at("row scales f32").get<std::uint64_t>());
  CHECK(after.buffers == parts.at("input/output scales f32").get<std::uint64_t>());
  CHECK(after.parameters == parts.at("unquantized f32").get<std::uint64_t>() +
                                parts.at("int8 codes").get<std::uint64_t>());
}

TEST_CASE("footprint of BLIP before and after a cast to bfloat16") {
  const auto golden =
      kvant::test::read_json("dummy_model/expected.json").at("blip_image_captioning_base");
  const std::vector<ModelTensor> tensors = {
      {"parameters", DType::float32, {989'656'304 / 4}, TensorRole::parameter},
      {"position_ids", DType::int64, {512}, TensorRole::buffer}};
  const Footprint before = footprint(tensors);
  const Footprint after = footprint(tensors, {.cast = DType::bfloat16});
  CHECK(before.total() == golden.at("float32").get<std::uint64_t>());
  CHECK(after.total() == golden.at("bfloat16").get<std::uint64_t>());
  CHECK(after.buffers == 4096);
  CHECK(static_cast<double>(after.total()) / static_cast<double>(before.total()) ==
        golden.at("ratio").get<double>());
}

TEST_CASE("footprint predicts what bitsandbytes wrote") {
  const std::string folder = kvant::test::data_path("checkpoints/");
  const auto plain = kvant::look::inspect_checkpoint(folder + "fp32");
  const auto int8 = kvant::look::inspect_checkpoint(folder + "bnb_int8");
  REQUIRE(plain.quantized.size() >= 1);
  CHECK(plain.quantized[0].first == kvant::WeightFormat::int8_row);
  CHECK(plain.quantized[0].second.total() == int8.stored.total());
  CHECK(plain.quantized[0].second.scales == int8.stored.scales);
  CHECK(plain.layers.size() == 8);
  CHECK(int8.layers.size() == 8);
  CHECK(plain.elements == int8.elements);
  CHECK(plain.stored.buffers == 0);
  CHECK(plain.bfloat16.total() * 2 == plain.stored.total());
  CHECK(kvant::look::inspect_checkpoint(folder + "fp16_sharded").stored.total() ==
        plain.bfloat16.total());
}

TEST_CASE("footprint refuses shapes that overflow") {
  const std::vector<ModelTensor> tensors = {
      {"a", DType::float32, {std::uint64_t{1} << 62, 2}, TensorRole::parameter}};
  CHECK_THROWS_AS(footprint(tensors), kvant::io::FormatError);
  const std::vector<ModelTensor> two(
      2, {"b", DType::uint8, {std::uint64_t{1} << 63}, TensorRole::parameter});
  CHECK_THROWS_AS(footprint(two), kvant::io::FormatError);
}

TEST_CASE("inspect finds the layers of each form, and buffers") {
  const std::string folder = kvant::test::data_path("checkpoints/");
  for (const auto& [name, scheme] :
       {std::pair("fp32", "fp32"), std::pair("bf16", "bf16"), std::pair("fp16_sharded", "fp16"),
        std::pair("bnb_int8", "int8"), std::pair("bnb_nf4_double", "nf4"),
        std::pair("bnb_fp4", "fp4")}) {
    const auto contents = kvant::look::inspect_checkpoint(folder + name);
    INFO(name);
    REQUIRE(contents.layers.size() == 8);
    for (const auto& layer : contents.layers) {
      CHECK(layer.scheme() == scheme);
      CHECK(layer.outputs * layer.inputs > 0);
    }
    CHECK(contents.layers.front().name == "transformer.h.0.attn.c_attn");
    CHECK(contents.layers.front().outputs == 96);
    CHECK(contents.layers.front().inputs == 64);
    CHECK(contents.elements == 293120 / 4);  // the bytes of fp32's tensors
  }
  kvant::test::CheckpointBuilder builder;
  builder.add<float>("layer.weight", {2, 3}, kvant::test::wave(6, 1))
      .add<float>("norm.running_mean", {3}, {0, 0, 0})
      .add<std::int64_t>("position_ids", {1, 4}, {0, 1, 2, 3});
  const auto contents = kvant::look::inspect_checkpoint(builder.write());
  CHECK(contents.stored.parameters == 24);
  CHECK(contents.stored.buffers == 12 + 32);
  CHECK(contents.layers.size() == 1);
}

TEST_CASE("natural order puts numbers as numbers") {
  CHECK(kvant::io::natural_less("h.2.x", "h.10.x"));
  CHECK_FALSE(kvant::io::natural_less("h.10.x", "h.2.x"));
  CHECK(kvant::io::natural_less("h.2", "h.2.x"));
  CHECK(kvant::io::natural_less("h.01", "h.1"));
  CHECK_FALSE(kvant::io::natural_less("h.1", "h.1"));
}
