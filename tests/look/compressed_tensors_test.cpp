// compressed-tensors' checkpoints and DeepSeek's fp8: every bit of their weights as the peer has it
// (tests/data/compressed_tensors), and what is wrong with broken ones.

#include <cmath>
#include <filesystem>
#include <limits>
#include <string>
#include <vector>

#include "kvant/float16.hpp"
#include "kvant/float8.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/inspect.hpp"
#include "kvant/look/report.hpp"
#include "kvant/look/verify.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::bfloat16;
using kvant::DType;
using kvant::ErrorCode;
using kvant::float8_e4m3fn;
using kvant::io::Checkpoint;
using kvant::test::CheckpointBuilder;
using kvant::test::data_path;
using kvant::test::TempFolder;

std::vector<kvant::io::StoredLayer> layers_of(const fs::path& model, const Checkpoint& file) {
  auto layers = kvant::io::find_linear_layers(file, kvant::io::model_hints_of(model));
  std::erase_if(layers, [](const auto& layer) { return !layer.quantized(); });
  return layers;
}

/// [outputs, inputs], in pieces of 7 rows.
std::vector<float> weights_of(const Checkpoint& file, const kvant::io::StoredLayer& layer) {
  std::vector<float> values(static_cast<std::size_t>(layer.elements()));
  const kvant::io::LayerReader reader(file, layer);
  for (std::int64_t row = 0; row < layer.outputs; row += 7) {
    reader.read(row, std::min<std::int64_t>(7, layer.outputs - row),
                values.data() + row * layer.inputs);
  }
  return values;
}

bool has(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace

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
    CHECK(kvant::test::code_of([&] { kvant::io::quantize_checkpoint(model, folder.path() / "q"); },
                               &message) == ErrorCode::unsupported);
    CHECK(message.find("quantized already") != std::string::npos);
  }
}

namespace {

std::string section(const std::string& format, const std::string& weights,
                    const std::string& more = {}) {
  return R"({"model_type": "llama", "quantization_config": {"quant_method": "compressed-tensors",
    "format": ")" +
         format + R"(", "config_groups": {"group_0": {"targets": ["Linear"], "weights": )" +
         weights + "}}" + more + "}}";
}

/// 8 outputs of 64 inputs in 2 groups, codes and zero points all 8, scales 0.5.
struct Packed {
  std::string config = section("pack-quantized", R"({"num_bits": 4, "group_size": 32})");
  std::vector<std::uint64_t> codes_shape = {8, 8};
  std::vector<std::int64_t> shape = {8, 64};
  std::vector<float> scales = std::vector<float>(16, 0.5f);
  std::vector<std::uint64_t> scales_shape = {8, 2};
  std::vector<std::uint64_t> zeros_shape = {};
  std::vector<std::int32_t> index = {};

  void fill(CheckpointBuilder& builder) const {
    builder.config(config);
    const std::string name = "a.q_proj.weight";
    builder.add<std::int32_t>(
        name + "_packed", codes_shape,
        std::vector<std::int32_t>(static_cast<std::size_t>(codes_shape[0] * codes_shape[1]),
                                  -2004318072));
    if (!shape.empty()) builder.add<std::int64_t>(name + "_shape", {shape.size()}, shape);
    if (!scales.empty()) builder.add<float>(name + "_scale", scales_shape, scales);
    if (!zeros_shape.empty()) {
      builder.add<std::int32_t>(
          name + "_zero_point", zeros_shape,
          std::vector<std::int32_t>(static_cast<std::size_t>(zeros_shape[0] * zeros_shape[1]),
                                    -2004318072));
    }
    if (!index.empty()) builder.add<std::int32_t>(name + "_g_idx", {index.size()}, index);
  }
};

/// Elements of 1 with scales of 0.5.
struct Elements {
  std::string config = section("float-quantized", R"({"num_bits": 8, "type": "float"})");
  DType dtype = DType::float8_e4m3fn;
  std::uint64_t outputs = 2;
  std::uint64_t inputs = 64;
  std::vector<std::uint64_t> scales_shape = {2, 1};
  float scale = 0.5f;
  std::string scale_name = "weight_scale";
  std::vector<std::int8_t> zeros = {};
  std::uint8_t element = 0x38;  ///< 1

  void fill(CheckpointBuilder& builder) const {
    builder.config(config);
    std::uint64_t count = 1;
    for (const std::uint64_t size : scales_shape) count *= size;
    const auto size = static_cast<std::size_t>(outputs * inputs);
    if (dtype == DType::int8) {
      builder.add<std::int8_t>("a.q_proj.weight", {outputs, inputs},
                               std::vector<std::int8_t>(size, 1));
    } else {
      builder.add<float8_e4m3fn>(
          "a.q_proj.weight", {outputs, inputs},
          std::vector<float8_e4m3fn>(size, float8_e4m3fn::from_bits(element)));
    }
    builder.add<float>("a.q_proj." + scale_name, scales_shape,
                       std::vector<float>(static_cast<std::size_t>(count), scale));
    if (!zeros.empty()) {
      builder.add<std::int8_t>("a.q_proj.weight_zero_point", {zeros.size(), 1}, zeros);
    }
  }
};

template <class Layer>
std::vector<float> read(const Layer& layer) {
  CheckpointBuilder builder;
  layer.fill(builder);
  const fs::path model = builder.write();
  const Checkpoint file(model);
  const auto layers = layers_of(model, file);
  REQUIRE(layers.size() == 1);
  const auto verdict = kvant::look::verify_checkpoint(model);
  INFO(to_text(verdict));
  CHECK(verdict.ok());
  return weights_of(file, layers[0]);
}

/// What dequantizing says; verify must find an error too.
template <class Layer>
std::string refused(const Layer& layer, bool verified = true) {
  const TempFolder folder;
  CheckpointBuilder builder;
  layer.fill(builder);
  const fs::path model = builder.write();
  std::string message;
  CHECK(kvant::test::code_of(
            [&] { kvant::io::dequantize_checkpoint(model, folder.path() / "out"); }, &message) !=
        ErrorCode::ok);
  CHECK_FALSE(fs::exists(folder.path() / "out"));
  INFO(message);
  if (verified) CHECK_FALSE(kvant::look::verify_checkpoint(model).ok());
  return message;
}

}  // namespace

TEST_CASE("compressed-tensors, packed: zero points, an index of groups, 3 bits") {
  Packed layer;
  CHECK(read(layer) == std::vector<float>(512, 0.0f));
  layer.zeros_shape = {1, 2};
  CHECK(read(layer) == std::vector<float>(512, 0.0f));
  layer.index.assign(64, 0);
  layer.index[5] = 1;
  CHECK(read(layer) == std::vector<float>(512, 0.0f));
  layer = {};
  layer.config = section("pack-quantized", R"({"num_bits": 3, "group_size": 32})");
  layer.codes_shape = {8, 6};
  // 1000 1000 1000 ... in threes from the lowest bit: 0, 1, 2, 4, 0, 1, 2, 4, ... less 4.
  const std::vector<float> values = read(layer);
  for (std::size_t i = 0; i < 8; ++i) {
    CHECK(values[i] == (std::vector<float>{-2, -1.5f, -1, 0}[i % 4]));
  }
}

TEST_CASE("compressed-tensors, mxfp4: what is broken is refused, and nvfp4 by name") {
  const auto message = [](std::uint64_t bytes, std::uint64_t scales, std::uint8_t exponent,
                          bool global) {
    const TempFolder folder;
    CheckpointBuilder builder;
    builder.config(
        section("mxfp4-pack-quantized", R"({"num_bits": 4, "type": "float", "group_size": 32})"));
    builder.add<std::uint8_t>("a.q_proj.weight_packed", {2, bytes},
                              std::vector<std::uint8_t>(static_cast<std::size_t>(2 * bytes), 0x21));
    builder.add<std::uint8_t>(
        "a.q_proj.weight_scale", {2, scales},
        std::vector<std::uint8_t>(static_cast<std::size_t>(2 * scales), exponent));
    if (global) builder.add<float>("a.q_proj.weight_global_scale", {1}, {1.0f});
    const fs::path model = builder.write();
    std::string text = "read";
    (void)kvant::test::code_of(
        [&] { kvant::io::dequantize_checkpoint(model, folder.path() / "out"); }, &text);
    INFO(text);
    if (!global) CHECK(kvant::look::verify_checkpoint(model).ok() == (text == "read"));
    return text;
  };
  CHECK(message(32, 2, 127, false) == "read");
  has(message(33, 2, 127, false), "is U8 [2, 33], not a matrix of e2m1 elements in blocks of 32");
  has(message(32, 1, 127, false), "is U8 [2, 1], not U8 [2, 2]: an exponent for 32 inputs");
  has(message(32, 2, 255, false), "a.q_proj.weight_scale\" holds 255, NaN, at position 0");
  has(message(32, 2, 127, true), "quantized by compressed-tensors (nvfp4) (tensor");
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

TEST_CASE("compressed-tensors: what is broken is refused, with the tensor and the rule") {
  Packed layer;
  layer.shape = {};
  has(refused(layer), "the tensor \"a.q_proj.weight_shape\" is missing");
  layer.shape = {8, 0};
  has(refused(layer), "a.q_proj.weight_shape\" is I64 [2]; two sizes of a weight");
  layer.shape = {8, 400};
  has(refused(layer), "says [8, 400], whose codes of 2, 3, 4 or 8 bits do not fit it");
  layer = {};
  layer.scales = {};
  has(refused(layer), "the tensor \"a.q_proj.weight_scale\" is missing");
  layer = {};
  layer.scales_shape = {16, 1};
  has(refused(layer), "8 outputs need a row of scales each");
  for (const float bad : {std::nanf(""), 0.0f, -1.0f, std::numeric_limits<float>::infinity()}) {
    layer = {};
    layer.scales[3] = bad;
    has(refused(layer), "a.q_proj.weight_scale\" holds");
  }
  layer = {};
  layer.zeros_shape = {2, 2};
  has(refused(layer), "not I32 [1, 2]: a zero point for each scale, packed down the outputs");
  layer = {};
  layer.scales_shape = {8, 3};
  layer.scales.resize(24, 1.0f);
  has(refused(layer), "3 groups of scales for 64 inputs");
  layer = {};
  layer.index.assign(64, 0);
  has(refused(layer), "a.q_proj.weight_g_idx\" has no input in group 1 of 2");
  layer.index[9] = 2;
  has(refused(layer), "input 9 is in group 2 of 2");
  layer.index.resize(60);
  has(refused(layer), "not I32 [64]: the group of each input");
  layer = {};
  layer.config = section("pack-quantized", R"({"num_bits": 8, "group_size": 32})");
  has(refused(layer, false), "has codes of 4 bits; config.json says 8");
  layer.config = section("pack-quantized", R"({"num_bits": 4, "group_size": 16})");
  has(refused(layer, false), "2 groups of scales for 64 inputs, group_size is 16");
  layer.config = section("pack-quantized", R"({"num_bits": 4, "type": "float"})");
  has(refused(layer), "\"float\" of 4 bits is not read; int of 2, 3, 4 and 8 bits and float of 8");
  layer.config = section("nvfp4-pack-quantized", R"({"num_bits": 4})");
  has(refused(layer), "format is \"nvfp4-pack-quantized\"; pack-quantized");
  layer.config = section("pack-quantized", R"({"num_bits": 4})", R"(, "ignore": ["a.q_proj"])");
  has(refused(layer), "ignore names \"a.q_proj\", which is stored quantized");
  layer.config = section("pack-quantized", R"({"num_bits": 4})",
                         R"(, "sparsity_config": {"format": "sparse-24-bitmask"})");
  has(refused(layer), "weights with zeros left out (\"sparse-24-bitmask\") are not read");
  layer.config = R"({"quantization_config": {"quant_method": "compressed-tensors",
                     "format": "pack-quantized"}})";
  has(refused(layer), "config_groups is missing");

  Elements elements;
  elements.scales_shape = {3, 1};
  has(refused(elements), "a.q_proj.weight_scale\" is F32 [3, 1]; the weight is [2, 64]");
  elements.scales_shape = {2, 3};
  has(refused(elements, false), "in blocks of 1 x 21 those would be [2, 4]");
  elements = {};
  elements.scale = std::nanf("");
  has(refused(elements), "a.q_proj.weight_scale\" holds nan at position 0");
  elements.scale = 0;
  has(refused(elements), "not a finite number above 0");
  elements = {};
  elements.zeros = {0, 0};
  has(refused(elements, false), "beside elements of e4m3, which have no zero points");
  elements.dtype = DType::int8;
  elements.config = section("int-quantized", R"({"num_bits": 8})");
  elements.zeros = {1, 1, 1};
  has(refused(elements), "there are 2 scales, and an I8 zero point belongs to each");
  elements = {};
  elements.element = 0x7F;
  has(refused(elements), "is not finite when dequantized");
  elements = {};
  elements.scale_name = "weight_scale_inv";
  elements.config = R"({"quantization_config": {"quant_method": "fp8",
                        "weight_block_size": [128]}})";
  has(refused(elements), "weight_block_size is [128], not two sizes above 0");
  elements.config = R"({"quantization_config": {"quant_method": "fp8", "fmt": "e5m2"}})";
  has(refused(elements), "fmt is \"e5m2\"; e4m3 is read");
  elements.config = R"({"quantization_config": {"quant_method": "fp8"}})";
  elements.outputs = 300;
  elements.scales_shape = {2, 1};
  has(refused(elements, false), "in blocks of 128 x 64 those would be [3, 1]");
}
