// compressed-tensors' checkpoints and DeepSeek's fp8: every bit of their weights as the peer has it
// (tests/data/compressed_tensors), scales of every shape, and which codes are packed as they are.

#include "look/compressed_layers.hpp"

#include "kvant/look/inspect.hpp"
#include "kvant/look/report.hpp"
#include "support/golden.hpp"

namespace kvant::test {

TEST_CASE("compressed-tensors and fp8: whole models, one layer of each bit for bit") {
  struct Model {
    const char* name;
    const char* scheme;
  };
  for (const Model& m :
       {Model{"w4_g32", "int4"}, Model{"w4_g32_asym", "int4"}, Model{"w4_channel", "int4"},
        Model{"w8_channel_packed", "int8-group"}, Model{"w8a8", "int8"},
        Model{"w8a8_tensor", "int8"}, Model{"w8a8_asym", "int8"}, Model{"fp8_channel", "fp8"},
        Model{"fp8_tensor", "fp8"}, Model{"fp8_block", "fp8-block"},
        Model{"deepseek_fp8", "fp8-block"}, Model{"mxfp4", "mxfp4"}}) {
    INFO(m.name);
    const fs::path model = data_path(std::string("compressed_tensors/") + m.name);
    const Checkpoint file(model);
    const auto layers = layers_of(model, file);
    REQUIRE(layers.size() == 7);
    const Checkpoint expected(model / "expected.safetensors");
    int compared = 0;
    for (const auto& layer : layers) {
      CHECK(layer.scheme() == m.scheme);
      const std::string name = "dequantized:" + layer.name;
      if (!expected.contains(name)) continue;
      CHECK(weights_of(file, layer) == expected.values<float>(name));
      ++compared;
    }
    CHECK(compared == 1);

    const auto verdict = kvant::look::verify_checkpoint(model / "model.safetensors");
    INFO(to_text(verdict));
    CHECK(verdict.findings.empty());
    const TempFolder folder;
    fs::create_directory(folder.path() / "model");
    for (const char* part : {"config.json", "model.safetensors"}) {
      fs::copy(model / part, folder.path() / "model" / part);
    }
    const auto whole = kvant::look::verify_checkpoint(folder.path() / "model");
    INFO(to_text(whole));
    CHECK(whole.findings.empty());
    const auto contents = kvant::look::inspect_checkpoint(folder.path() / "model");
    CHECK(contents.warnings.empty());
    CHECK(contents.stored.scales > 0);
    CHECK(to_text(contents).find(m.scheme) != std::string::npos);

    // To floats: the same weights, nothing else of the form is left.
    const fs::path back = folder.path() / "back";
    kvant::io::dequantize_checkpoint(folder.path() / "model", back, {.dtype = DType::float32});
    const Checkpoint floats(back);
    CHECK(floats.tensors().size() == 7 + 5);
    for (const auto& layer : layers) {
      CHECK(floats.values<float>(layer.name + ".weight") == weights_of(file, layer));
    }
    CHECK(kvant::look::verify_checkpoint(back).findings.empty());
    CHECK(kvant::look::report_checkpoint(back, folder.path() / "model").total.max == 0);
    std::string message;
    CHECK(code_of([&] { kvant::io::quantize_checkpoint(model, folder.path() / "q"); }, &message) ==
          ErrorCode::unsupported);
    CHECK(message.find("quantized already") != std::string::npos);
  }
}

TEST_CASE("compressed-tensors, packed: zero points, an index of groups, 3 bits") {
  Packed layer;
  CHECK(read(layer) == std::vector<float>(512, 0.0f));
  layer.zeros_shape = {1, 2};
  CHECK(read(layer) == std::vector<float>(512, 0.0f));
  layer.index.assign(64, 0);
  layer.index[5] = 1;
  CHECK(read(layer) == std::vector<float>(512, 0.0f));
  // Groups by expressions that disagree: the tensors decide. One that names the layer counts.
  layer = {};
  const std::string first = R"({"num_bits": 8, "group_size": 64}}, "group_1": {"targets": [")";
  const std::string second = R"("], "weights": {"num_bits": 4, "group_size": 32})";
  for (const char* target : {"re:.*q_proj", "a.q_proj"}) {
    layer.config = section("pack-quantized", first + target + second);
    CHECK(read(layer) == std::vector<float>(512, 0.0f));
  }
  layer = {};
  layer.config = section("pack-quantized", R"({"num_bits": 3, "group_size": 32})");
  layer.codes_shape = {8, 6};
  // 1000 1000 1000 ... in threes from the lowest bit: 0, 1, 2, 4, 0, 1, 2, 4, ... less 4.
  const std::vector<float> values = read(layer);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(values[i] == (std::vector<float>{-2, -1.5f, -1, 0}[i % 4]));
  }
}

TEST_CASE("compressed-tensors and fp8: scales of every shape") {
  Elements layer;
  for (const std::vector<std::uint64_t>& shape :
       std::vector<std::vector<std::uint64_t>>{{2, 1}, {2}, {1}, {}, {1, 1}, {2, 2}}) {
    layer.scales_shape = shape;
    CHECK(read(layer) == std::vector<float>(128, 0.5f));
  }
  layer.outputs = 130;
  layer.inputs = 300;
  layer.scales_shape = {2, 3};
  CHECK(read(layer) == std::vector<float>(130 * 300, 0.5f));
  // Other squares are as config.json says.
  layer.config = section("float-quantized",
                         R"({"num_bits": 8, "type": "float", "block_structure": [64, 100]})");
  layer.scales_shape = {3, 3};
  CHECK(read(layer) == std::vector<float>(130 * 300, 0.5f));
  layer.config = section("float-quantized",
                         R"({"num_bits": 8, "type": "float", "block_structure": "64x100"})");
  CHECK(read(layer) == std::vector<float>(130 * 300, 0.5f));
  layer.config = R"({"quantization_config": {"quant_method": "fp8",
                     "weight_block_size": [64, 100]}})";
  layer.scale_name = "weight_scale_inv";
  CHECK(read(layer) == std::vector<float>(130 * 300, 0.5f));
  // AutoFP8's files: one scale, and another name for the form.
  layer = {};
  layer.config = R"({"quantization_config": {"quant_method": "fp8"}})";
  layer.scales_shape = {};
  CHECK(read(layer) == std::vector<float>(128, 0.5f));
  CheckpointBuilder floats;
  floats.config(layer.config);
  floats.add<float>("a.q_proj.weight", {2, 2}, {1, 2, 3, 4});
  CHECK(has(to_text(kvant::look::verify_checkpoint(floats.write())),
            "quant_method is \"fp8\", but no layer is stored in its form"));
  layer = {};
  layer.config = section("int-quantized", R"({"num_bits": 8})");
  layer.dtype = DType::int8;
  layer.zeros = {3, -1};
  std::vector<float> wanted(128, -1.0f);
  std::fill(wanted.begin() + 64, wanted.end(), 1.0f);
  CHECK(read(layer) == wanted);
}

namespace {

/// The format that a layer's codes are taken into as they are; "none": it is expanded.
template <class Layer>
std::string packed_as(const Layer& layer) {
  CheckpointBuilder builder;
  layer.fill(builder);
  const fs::path model = builder.write();
  const Checkpoint file(model);
  const auto layers = layers_of(model, file);
  REQUIRE(layers.size() == 1);
  const kvant::io::LayerReader reader(file, layers[0]);
  const auto codes = reader.codes();
  if (!codes) return "none";
  return std::string(to_string(codes->format)) + " " + std::to_string(codes->block) +
         (codes->order.empty() ? "" : " reordered");
}

}  // namespace

TEST_CASE("stored codes become those of a format only where nothing is lost") {
  Packed layer;
  CHECK(packed_as(layer) == "int4 32");
  layer.scales[3] = 0.1f;  // no number of fp16
  CHECK(packed_as(layer) == "none");
  layer = {};
  layer.scales_shape = {8, 4};
  layer.scales.resize(32, 0.5f);
  layer.config = section("pack-quantized", R"({"num_bits": 4, "group_size": 16})");
  CHECK(packed_as(layer) == "none");  // groups of 16
  layer = {};
  layer.index.assign(64, 0);
  for (std::size_t k = 1; k < 64; k += 2) layer.index[k] = 1;
  CHECK(packed_as(layer) == "int4 32 reordered");  // an activation order
  layer.index[0] = 1;
  CHECK(packed_as(layer) == "none");  // groups of 31 and 33
  Elements elements;
  CHECK(packed_as(elements) == "fp8 0");
  elements.scales_shape = {2, 2};
  CHECK(packed_as(elements) == "fp8-block 32");
  elements.inputs = 66;
  elements.scales_shape = {2, 2};
  CHECK(packed_as(elements) == "none");  // groups of 33
  elements = {};
  elements.dtype = DType::int8;
  elements.config = section("int-quantized", R"({"num_bits": 8})");
  CHECK(packed_as(elements) == "int8 0");
  elements.zeros = {0, 0};
  CHECK(packed_as(elements) == "int8 0");
  elements.zeros = {0, 1};
  CHECK(packed_as(elements) == "none");
}
}  // namespace kvant::test
