#pragma once

// Layers in the forms of compressed-tensors and of DeepSeek's fp8, small and whole, to be broken by
// tests one part at a time.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvant/float8.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/verify.hpp"
#include "look/stored_layers.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace kvant::test {

namespace fs = std::filesystem;
using io::Checkpoint;

inline std::string section(const std::string& format, const std::string& weights,
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
  CHECK(code_of([&] { kvant::io::dequantize_checkpoint(model, folder.path() / "out"); },
                &message) != ErrorCode::ok);
  CHECK_FALSE(fs::exists(folder.path() / "out"));
  INFO(message);
  if (verified) CHECK_FALSE(kvant::look::verify_checkpoint(model).ok());
  return message;
}

}  // namespace kvant::test
