// What is wrong with broken layers of compressed-tensors and of DeepSeek's fp8: the tensor and the
// rule, by reading and by verifying.

#include <cmath>
#include <limits>

#include "look/compressed_layers.hpp"

namespace kvant::test {

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
    (void)code_of([&] { kvant::io::dequantize_checkpoint(model, folder.path() / "out"); }, &text);
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
  for (const char* odd : {"0", "null", "\"false\""}) {
    layer.config = R"({"quantization_config": {"quant_method": "compressed-tensors",
      "format": "pack-quantized", "config_groups": {"group_0": {"targets": ["Linear"],
      "weights": {"num_bits": 4}, "input_activations": {"dynamic": )" +
                   std::string(odd) + "}}}}}";
    has(refused(layer), "group_0.input_activations.dynamic is " + std::string(odd) +
                            ", neither true nor false nor \"local\"");
  }

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
  has(refused(elements), "is NaN, which is what its code in tensor \"a.q_proj.weight\" stands for");
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

TEST_CASE("compressed-tensors: zero points of activations are whole numbers of int8") {
  struct WithInputs : Elements {
    float zero_point = 0;
    void fill(CheckpointBuilder& builder) const {
      Elements::fill(builder);
      builder.add<float>("a.q_proj.input_scale", {1}, {0.25f});
      builder.add<float>("a.q_proj.input_zero_point", {1}, {zero_point});
    }
  };
  WithInputs layer;
  layer.dtype = DType::int8;
  layer.config = section("int-quantized", R"({"num_bits": 8})");
  for (const float zero_point : {-128.0f, -3.0f, 127.0f}) {
    layer.zero_point = zero_point;
    CheckpointBuilder builder;
    layer.fill(builder);
    const fs::path model = builder.write();
    const Checkpoint file(model);
    const auto params = kvant::io::input_params(file, layers_of(model, file).at(0));
    REQUIRE(params.has_value());
    CHECK(params->scale == std::vector<float>{0.25f});
    CHECK(params->zero_point == std::vector<std::int32_t>{static_cast<std::int32_t>(zero_point)});
  }
  for (const float zero_point : {3.5f, 128.0f, -129.0f, std::nanf("")}) {
    layer.zero_point = zero_point;
    CheckpointBuilder builder;
    layer.fill(builder);
    const auto verdict = kvant::look::verify_checkpoint(builder.write());
    INFO(to_text(verdict));
    CHECK_FALSE(verdict.ok());
    has(to_text(verdict), "a.q_proj.input_zero_point");
    has(to_text(verdict), "not an int8");
  }
}

TEST_CASE("codes without the scales of their form are an error, not floats") {
  const auto refused_by_all = [](const std::string& config, auto&& fill) {
    const TempFolder folder;
    CheckpointBuilder builder;
    builder.config(config);
    fill(builder);
    const fs::path model = builder.write();
    std::string text;
    CHECK(code_of([&] { kvant::io::dequantize_checkpoint(model, folder.path() / "out"); }, &text) ==
          ErrorCode::invalid_file);
    CHECK_FALSE(kvant::look::verify_checkpoint(model).ok());
    CHECK_FALSE(fs::exists(folder.path() / "out"));
    return text;
  };
  const std::string deepseek = R"({"model_type": "llama", "quantization_config": {
    "quant_method": "fp8", "weight_block_size": [128, 128]}})";
  has(refused_by_all(
          deepseek,
          [](CheckpointBuilder& builder) {
            builder.add<float8_e4m3fn>("a.q_proj.weight", {4, 64}, std::vector<float8_e4m3fn>(256));
          }),
      "a.q_proj.weight\" is F8_E4M3 [4, 64], codes of a quantized layer, but its scales are "
      "missing");
  has(refused_by_all(section("mxfp4-pack-quantized", R"({"num_bits": 4, "type": "float"})"),
                     [](CheckpointBuilder& builder) {
                       builder.add<std::uint8_t>("a.q_proj.weight_packed", {2, 32},
                                                 std::vector<std::uint8_t>(64, 0x21));
                     }),
      "a.q_proj.weight_packed\" is U8 [2, 32]");
}

TEST_CASE("compressed-tensors, int8: zero points count, whatever the type of the scales") {
  const auto values = [](auto scale) {
    CheckpointBuilder builder;
    builder.config(section("int-quantized", R"({"num_bits": 8, "symmetric": false})"));
    builder.add<std::int8_t>("a.q_proj.weight", {2, 64}, std::vector<std::int8_t>(128, 5));
    builder.add<decltype(scale)>("a.q_proj.weight_scale", {2, 1}, {scale, scale});
    builder.add<std::int8_t>("a.q_proj.weight_zero_point", {2, 1}, {3, -3});
    const fs::path model = builder.write();
    CHECK(kvant::look::verify_checkpoint(model).ok());
    const Checkpoint file(model);
    return weights_of(file, layers_of(model, file).at(0));
  };
  const std::vector<float> half = values(float16(0.5f));
  CHECK(half == values(0.5f));
  CHECK(half.front() == 1.0f);
  CHECK(half.back() == 4.0f);
}

}  // namespace kvant::test
