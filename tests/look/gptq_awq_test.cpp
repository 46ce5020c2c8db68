// GPTQ's and AWQ's checkpoints: every bit of their weights as the peers have it, and what is wrong
// with broken ones.

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kvant/float16.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/inspect.hpp"
#include "kvant/look/report.hpp"
#include "kvant/look/verify.hpp"
#include "look/stored_layers.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::float16;
using kvant::io::Checkpoint;
using kvant::test::CheckpointBuilder;
using kvant::test::data_path;
using kvant::test::has;
using kvant::test::layers_of;
using kvant::test::TempFolder;
using kvant::test::weights_of;

const std::string kV1 = R"({"model_type": "llama", "quantization_config":
    {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq"}})";
const std::string kAwq = R"({"model_type": "llama", "quantization_config":
    {"quant_method": "awq", "bits": 4, "version": "gemm"}})";

void copy(CheckpointBuilder& builder, const Checkpoint& from, const std::string& prefix,
          const std::string& layer) {
  for (const char* part : {"qweight", "qzeros", "scales", "g_idx"}) {
    if (!from.contains(prefix + part)) continue;
    const auto& info = *from.tensor(prefix + part).info;
    if (info.dtype == DType::float16) {
      builder.add<float16>(layer + "." + part, info.shape, from.values<float16>(prefix + part));
    } else {
      builder.add<std::int32_t>(layer + "." + part, info.shape,
                                from.values<std::int32_t>(prefix + part));
    }
  }
}

/// The one layer that a builder's folder has equals dq, [inputs, outputs] in fp16.
void check_layer(CheckpointBuilder& builder, const std::vector<float16>& dq) {
  const fs::path model = builder.write();
  const Checkpoint file(model);
  const auto layers = layers_of(model, file);
  REQUIRE(layers.size() == 1);
  const std::vector<float> values = weights_of(file, layers[0]);
  REQUIRE(values.size() == dq.size());
  std::size_t different = 0;
  for (std::int64_t n = 0; n < layers[0].outputs; ++n) {
    for (std::int64_t k = 0; k < layers[0].inputs; ++k) {
      const float mine = values[static_cast<std::size_t>(n * layers[0].inputs + k)];
      const float16 peer = dq[static_cast<std::size_t>(k * layers[0].outputs + n)];
      if (static_cast<float>(float16(mine)) != static_cast<float>(peer)) ++different;
    }
  }
  CHECK(different == 0);
}

}  // namespace

TEST_CASE("GPTQ and AWQ: whole models, one layer of each bit for bit") {
  struct Model {
    const char* name;
    const char* scheme;
  };
  for (const Model& m :
       {Model{"gptq_2bit_g32_asym", "int2"}, Model{"gptq_3bit_g32_asym", "int3"},
        Model{"gptq_4bit_g32_asym_act", "int4"}, Model{"gptq_4bit_g32_sym", "int4"},
        Model{"gptq_8bit_g-1_sym_v2", "int8-group"}, Model{"awq_4bit_g32", "int4"}}) {
    INFO(m.name);
    const fs::path model = data_path(std::string("gptq_awq/") + m.name);
    const Checkpoint file(model);
    const auto layers = layers_of(model, file);
    REQUIRE(layers.size() == 14);
    for (const auto& layer : layers) CHECK(layer.scheme() == m.scheme);
    const Checkpoint expected(model / "expected.safetensors");
    const std::string prefix = "dequantized:";
    int compared = 0;
    for (const kvant::io::TensorInfo* info : expected.tensors()) {
      if (!info->name.starts_with(prefix)) continue;
      const auto layer = std::find_if(layers.begin(), layers.end(), [&](const auto& l) {
        return l.name == info->name.substr(prefix.size());
      });
      REQUIRE(layer != layers.end());
      CHECK(weights_of(file, *layer) == expected.values<float>(info->name));
      ++compared;
    }
    CHECK(compared == 1);

    const auto verdict = kvant::look::verify_checkpoint(model / "model.safetensors");
    INFO(to_text(verdict));
    CHECK(verdict.findings.empty());
    const auto contents = kvant::look::inspect_checkpoint(model);
    CHECK(contents.layers.size() >= 14);
    CHECK(contents.warnings.empty());
    CHECK(contents.stored.scales > 0);
    CHECK(to_text(contents).find(m.scheme) != std::string::npos);

    // To floats: the same weights, nothing else of the form is left.
    const TempFolder folder;
    const fs::path back = folder.path() / "back";
    kvant::io::dequantize_checkpoint(model, back, {.dtype = DType::float32});
    const Checkpoint floats(back);
    CHECK(floats.tensors().size() == 14 + 7);
    for (const auto& layer : layers) {
      CHECK(floats.values<float>(layer.name + ".weight") == weights_of(file, layer));
    }
    CHECK(kvant::look::verify_checkpoint(back).findings.empty());
    const auto report = kvant::look::report_checkpoint(back, model);
    CHECK(report.total.max == 0);
    std::string message;
    CHECK(kvant::test::code_of([&] { kvant::io::quantize_checkpoint(model, folder.path() / "q"); },
                               &message) == ErrorCode::unsupported);
    CHECK(message.find("quantized already") != std::string::npos);
  }
}

TEST_CASE("GPTQ: files of auto-gptq, with and without g_idx, zero points of 0 included") {
  const Checkpoint golden(data_path("linear_quantizers/gptq_checkpoints.safetensors"));
  for (const std::string name : {"b4.sym.g128.ckpt", "b4.asym.g128.ckpt", "b4.asym.g128.act.ckpt",
                                 "b3.asym.g128.ckpt", "b8.asym.g128.ckpt", "b2.asym.g64.ckpt"}) {
    INFO(name);
    CheckpointBuilder builder;
    builder.config(kV1);
    copy(builder, golden, name + ".", "a.q_proj");
    check_layer(builder, golden.values<float16>(name + ".dq"));
    if (name.find("act") != std::string::npos) continue;
    CheckpointBuilder without;
    without.config(kV1);
    for (const char* part : {"qweight", "qzeros"}) {
      without.add<std::int32_t>(std::string("a.q_proj.") + part,
                                golden.tensor(name + "." + part).info->shape,
                                golden.values<std::int32_t>(name + "." + part));
    }
    without.add<float16>("a.q_proj.scales", golden.tensor(name + ".scales").info->shape,
                         golden.values<float16>(name + ".scales"));
    check_layer(without, golden.values<float16>(name + ".dq"));
  }
  // A zero point of 0 spoils those above it in its word: read as the peer reads it, with a warning.
  CheckpointBuilder trap;
  trap.config(kV1);
  copy(trap, golden, "trap.", "a.q_proj");
  check_layer(trap, golden.values<float16>("trap.peer_dq"));
  const auto verdict = kvant::look::verify_checkpoint(trap.write());
  CHECK(verdict.count(kvant::io::Severity::error) == 0);
  CHECK(to_text(verdict).find("a.q_proj.qzeros\" holds 4 words of ones only") != std::string::npos);
}

TEST_CASE("AWQ: files of AutoAWQ, and its own conversion to GPTQ") {
  const Checkpoint golden(data_path("linear_quantizers/awq_checkpoints.safetensors"));
  for (const std::string name : {"g128", "g32"}) {
    INFO(name);
    CheckpointBuilder builder;
    builder.config(kAwq);
    copy(builder, golden, name + ".", "a.q_proj");
    check_layer(builder, golden.values<float16>(name + ".dq"));
    CheckpointBuilder converted;
    converted.config(kV1);
    for (const char* part : {"qweight", "qzeros"}) {
      converted.add<std::int32_t>(std::string("a.q_proj.") + part,
                                  golden.tensor(name + ".gptq_v1." + part).info->shape,
                                  golden.values<std::int32_t>(name + ".gptq_v1." + part));
    }
    converted.add<float16>("a.q_proj.scales", golden.tensor(name + ".scales").info->shape,
                           golden.values<float16>(name + ".scales"));
    check_layer(converted, golden.values<float16>(name + ".dq"));
  }
}

namespace {

/// 32 inputs, 8 outputs, 2 groups: codes and zero points all 8, scales 0.5.
struct Layer {
  std::string config = kV1;
  std::vector<std::int32_t> codes = std::vector<std::int32_t>(32, -2004318072);
  std::vector<std::uint64_t> codes_shape = {4, 8};
  std::vector<std::int32_t> zeros = std::vector<std::int32_t>(2, -2004318072);
  std::vector<std::uint64_t> zeros_shape = {2, 1};
  std::vector<float16> scales = std::vector<float16>(16, float16(0.5f));
  std::vector<std::uint64_t> scales_shape = {2, 8};
  std::vector<std::int32_t> g_idx = {};

  void fill(CheckpointBuilder& builder) const {
    builder.config(config);
    builder.add<std::int32_t>("a.q_proj.qweight", codes_shape, codes);
    if (!zeros.empty()) builder.add<std::int32_t>("a.q_proj.qzeros", zeros_shape, zeros);
    if (!scales.empty()) builder.add<float16>("a.q_proj.scales", scales_shape, scales);
    if (!g_idx.empty()) builder.add<std::int32_t>("a.q_proj.g_idx", {g_idx.size()}, g_idx);
  }
  /// The weight of output 0 and input 0.
  [[nodiscard]] float first() const {
    CheckpointBuilder builder;
    fill(builder);
    const fs::path model = builder.write();
    const Checkpoint file(model);
    const auto layers = layers_of(model, file);
    REQUIRE(layers.size() == 1);
    return weights_of(file, layers[0]).at(0);
  }
};

/// What dequantizing says; verify must find an error too.
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
  if (verified) CHECK_FALSE(kvant::look::verify_checkpoint(model).ok());
  return message;
}

}  // namespace

TEST_CASE("GPTQ: zero points of both versions, and of files that say the wrong one") {
  Layer layer;
  CHECK(layer.first() == 0);  // says version 1, but all are 8: symmetric as they are
  layer.zeros = {0x77777777, 0x77777777};
  CHECK(layer.first() == 0);
  layer.zeros = {0x77777776, 0x77777777};
  CHECK(layer.first() == 0.5f);  // 8 - 7
  layer.config =
      R"({"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq_v2"}})";
  CHECK(layer.first() == 1.0f);  // 8 - 6
  // 0 in version 1: AutoGPTQ reads 16, GPTQModel's borrow is given back.
  layer.config = kV1;
  layer.zeros = {0x777773F7, 0x77777777};
  CHECK(layer.first() == 0);
  layer.zeros = {0x7777776F, 0x77777777};
  CHECK(layer.first() == -4.0f);  // 8 - 16
  layer.config = R"({"quantization_config": {"quant_method": "gptq", "checkpoint_format": "gptq",
                     "meta": {"quantizer": ["gptqmodel:2.0"]}}})";
  CHECK(layer.first() == 4.0f);  // 8 - 0
}

TEST_CASE("GPTQ and AWQ: what is broken is refused, with the tensor and the rule") {
  Layer layer;
  layer.zeros = {};
  has(refused(layer), "the tensor \"a.q_proj.qzeros\" is missing");
  layer = {};
  layer.scales = {};
  has(refused(layer), "the tensor \"a.q_proj.scales\" is missing");
  for (const float bad : {std::nanf(""), 0.0f, -1.0f, std::numeric_limits<float>::infinity()}) {
    layer = {};
    layer.scales[9] = float16(bad);
    has(refused(layer), "a.q_proj.scales\" holds");
    has(refused(layer), "for group 1 of output 1, not a finite number above 0");
  }
  layer = {};
  layer.codes.resize(24);
  layer.codes_shape = {4, 6};
  has(refused(layer), "a.q_proj.qweight\" is I32 [4, 6]");
  layer = {};
  layer.zeros.resize(10);
  layer.zeros_shape = {2, 5};
  has(refused(layer), "5 words do not hold 8 zero points of 2, 3, 4 or 8 bits");
  layer = {};
  layer.zeros_shape = {1, 1};
  layer.zeros.resize(1);
  has(refused(layer), "are of 2 groups");
  layer = {};
  layer.g_idx.assign(32, 0);
  has(refused(layer), "a.q_proj.g_idx\" has no input in group 1 of 2");
  layer.g_idx[7] = 2;
  has(refused(layer), "input 7 is in group 2 of 2");
  layer.g_idx[7] = -1;
  has(refused(layer), "input 7 is in group -1 of 2");
  layer.g_idx.resize(31);
  has(refused(layer), "not I32 [32]: the group of each input");
  layer = {};
  layer.scales.assign(24, float16(1.0f));
  layer.scales_shape = {3, 8};
  layer.zeros.assign(3, 0);
  layer.zeros_shape = {3, 1};
  has(refused(layer, false), "3 groups of scales do not divide 32 inputs");
  layer = {};
  layer.config =
      R"({"quantization_config": {"quant_method": "gptq", "checkpoint_format": "marlin"}})";
  has(refused(layer), "checkpoint_format \"marlin\"");
  layer.config = R"({"quantization_config": {"quant_method": "gptq", "bits": 5}})";
  has(refused(layer), "bits is 5; gptq is read with 2, 3, 4 and 8 bits");
  layer.config = R"({"quantization_config": {"quant_method": "gptq", "group_size": 0}})";
  has(refused(layer), "group_size is 0, neither -1 nor above 0");

  Layer awq;  // 4 inputs, 64 outputs
  awq.config = kAwq;
  awq.scales.assign(128, float16(1.0f));
  awq.scales_shape = {2, 64};
  awq.zeros.assign(16, 0);
  awq.zeros_shape = {2, 8};
  CHECK(awq.first() == 8.0f);
  Layer broken = awq;
  broken.zeros.resize(8);
  broken.zeros_shape = {1, 8};
  has(refused(broken), "a.q_proj.qzeros\" is I32 [1, 8], not [2, 8]: 8 zero points a word");
  broken = awq;
  broken.scales[65] = float16(0.0f);
  has(refused(broken), "for group 1 of output 1, not a finite number above 0");
  broken = awq;
  broken.config = R"({"quantization_config": {"quant_method": "awq", "version": "marlin"}})";
  has(refused(broken), "version \"marlin\" of AWQ is not read; gemm and gemv are");
  broken.config = R"({"quantization_config": {"quant_method": "awq", "group_size": 4}})";
  has(refused(broken, false), "groups of 2 inputs; config.json says 4");
}

TEST_CASE("AWQ's gemv form: codes along the inputs, scales padded") {
  // 2 outputs, 64 inputs, groups of 32: 2 of 8 places used.
  CheckpointBuilder builder;
  builder.config(R"({"quantization_config": {"quant_method": "awq", "version": "gemv",
                     "group_size": 32}})");
  std::vector<std::int32_t> codes(16, 0x76543210);
  builder.add<std::int32_t>("a.q_proj.qweight", {2, 8}, codes);
  builder.add<std::int32_t>("a.q_proj.qzeros", {2, 1}, {0x21, 0x43});
  std::vector<float16> scales(16, float16(0.0f));
  scales[0] = scales[1] = float16(1.0f);
  scales[8] = scales[9] = float16(2.0f);
  builder.add<float16>("a.q_proj.scales", {2, 8}, scales);
  std::vector<float16> dq(128);
  for (std::size_t k = 0; k < 64; ++k) {
    for (std::size_t n = 0; n < 2; ++n) {
      const float zero = static_cast<float>((n == 0 ? 0 : 2) + (k < 32 ? 1 : 2));
      dq[k * 2 + n] = float16((static_cast<float>(k % 8) - zero) * (n == 0 ? 1.0f : 2.0f));
    }
  }
  check_layer(builder, dq);
}

TEST_CASE("int4 rounded to nearest is written as GPTQ v2 and AWQ: the same weights in both") {
  const fs::path model = data_path("checkpoints/fp32");
  const TempFolder folder;
  for (const bool zero_points : {true, false}) {
    std::vector<std::vector<float>> first;
    for (const std::string method : {"gptq", "awq"}) {
      INFO(method << (zero_points ? "" : " symmetric"));
      const fs::path out = folder.path() / (method + (zero_points ? "" : "-symmetric"));
      kvant::io::quantize_checkpoint(model, out,
                                     {.scheme = kvant::WeightFormat::int4_group,
                                      .block = 32,
                                      .zero_points = zero_points,
                                      .quant_method = method});
      const auto verdict = kvant::look::verify_checkpoint(out);
      INFO(to_text(verdict));
      CHECK(verdict.findings.empty());
      const Checkpoint file(out);
      const auto layers = layers_of(out, file);
      REQUIRE(layers.size() == 8);
      std::vector<std::vector<float>> weights;
      for (const auto& layer : layers) {
        CHECK(layer.scheme() == "int4");
        weights.push_back(weights_of(file, layer));
      }
      if (first.empty()) first = weights;
      CHECK(weights == first);
      CHECK(kvant::look::report_checkpoint(model, out).total.sqnr_db > 18);
      std::ifstream config(out / "config.json");
      const auto section = nlohmann::json::parse(config).at("quantization_config");
      CHECK(section.at("quant_method") == method);
      CHECK(section.at("group_size") == 32);
      CHECK(section.at("bits") == 4);
      if (method == "gptq") {
        CHECK(section.at("checkpoint_format") == "gptq_v2");
        CHECK(section.at("sym") == !zero_points);
      } else {
        CHECK(section.at("version") == "gemm");
        CHECK(section.at("zero_point") == zero_points);
        CHECK(section.at("modules_to_not_convert") == nlohmann::json{"lm_head"});
      }
    }
  }
}

TEST_CASE("int4: shapes and groups that the forms do not have are refused") {
  const TempFolder folder;
  const auto refused_write = [&](const kvant::io::QuantizeCheckpointOptions& options) {
    std::string message;
    CHECK(kvant::test::code_of(
              [&] {
                kvant::io::quantize_checkpoint(data_path("checkpoints/fp32"), folder.path() / "out",
                                               options);
              },
              &message) != ErrorCode::ok);
    CHECK_FALSE(fs::exists(folder.path() / "out"));
    return message;
  };
  const auto int4 = kvant::WeightFormat::int4_group;
  has(refused_write({.scheme = int4, .block = 48}), "int4: groups of 48 inputs");
  has(refused_write({.scheme = int4, .block = 64, .quant_method = "awq"}),
      "has 160 inputs, AWQ's form needs a multiple of 64; keep it in float (--skip)");
  has(refused_write({.scheme = int4, .quant_method = "exl2"}),
      "int4 has no form of quant_method \"exl2\"");
}
