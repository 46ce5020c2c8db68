// verify_checkpoint: every defect by itself is found and named, several are all listed, and good
// checkpoints have no findings.

#include <cmath>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "kvant/error.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/look/verify.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

using kvant::io::Severity;
using kvant::look::verify_checkpoint;
using kvant::look::VerifyResult;
using kvant::test::CheckpointBuilder;
using kvant::test::TempFolder;
using kvant::test::wave;

namespace {

const std::string kConfig =
    R"({"model_type": "llama", "quantization_config": {"quant_method": "bitsandbytes",
        "load_in_8bit": true, "load_in_4bit": false, "llm_int8_threshold": 6.0,
        "llm_int8_skip_modules": ["lm_head"]}})";

/// What an 8-bit layer of two outputs consists of, to be spoiled.
struct Int8Layer {
  std::vector<std::int8_t> codes = {1, -127, 3, 127, 5, -6};
  bool has_scales = true;
  std::vector<float> scales = {0.5f, 0.0f};
  std::vector<std::uint8_t> format = {0};
  std::string config = kConfig;
};

VerifyResult verify(const Int8Layer& layer) {
  CheckpointBuilder builder;
  builder.config(layer.config);
  builder.add("q_proj.weight", {2, 3}, layer.codes);
  if (layer.has_scales) builder.add("q_proj.SCB", {layer.scales.size()}, layer.scales);
  builder.add("q_proj.weight_format", {layer.format.size()}, layer.format);
  return verify_checkpoint(builder.write());
}

/// The one finding of a spoiled layer, as "error kind" or "warning kind".
std::string only(const Int8Layer& layer) {
  const VerifyResult result = verify(layer);
  INFO(kvant::look::to_text(result));
  CHECK(result.findings.size() == 1);
  if (result.findings.empty()) return "nothing";
  const auto& finding = result.findings.front();
  return (finding.severity == Severity::error ? "error " : "warning ") + finding.kind;
}

}  // namespace

TEST_CASE("verify finds nothing in good checkpoints") {
  CHECK(verify({}).findings.empty());
  int seen = 0;
  for (const auto& entry :
       std::filesystem::directory_iterator(kvant::test::data_path("checkpoints"))) {
    if (!entry.is_directory()) continue;
    const VerifyResult result = verify_checkpoint(entry.path());
    INFO(kvant::look::to_text(result));
    CHECK(result.findings.empty());
    CHECK(result.tensors >= 28);
    ++seen;
  }
  CHECK(seen >= 8);
}

TEST_CASE("verify names what is wrong with an 8-bit layer") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  CHECK(only({.scales = {0.5f, -1.0f}}) == "error scale");
  CHECK(only({.scales = {NAN, 1.0f}}) == "error scale");
  CHECK(only({.scales = {kInf, 1.0f}}) == "error scale");
  CHECK(only({.scales = {1.0f, 1.0f, 1.0f}}) == "error scale");
  CHECK(only({.scales = {1.0f}}) == "error scale");
  CHECK(only({.has_scales = false}) == "error scale");
  CHECK(only({.codes = {1, -128, 3, 4, 5, 6}}) == "warning codes");
  CHECK(only({.format = {1}}) == "error weight_format");
  CHECK(only({.format = {0, 0}}) == "error weight_format");
}

TEST_CASE("verify checks kept outlier columns") {
  const auto with = [](std::vector<std::int64_t> columns, std::uint64_t rows) {
    CheckpointBuilder builder;
    const std::uint64_t kept = columns.size();
    builder.config(kConfig)
        .add<std::int8_t>("q_proj.weight", {2, 3}, {1, 2, 3, 4, 5, 6})
        .add<float>("q_proj.SCB", {2}, {1, 1})
        .add("q_proj.kvant_keep_columns", {kept}, columns)
        .add("q_proj.kvant_keep_weights", {rows, kept},
             std::vector<kvant::float16>(rows * kept, kvant::float16(1.0f)));
    const VerifyResult result = verify_checkpoint(builder.write());
    INFO(kvant::look::to_text(result));
    for (const auto& finding : result.findings) CHECK(finding.kind == "outliers");
    return result.findings.size();
  };
  CHECK(with({0, 2}, 2) == 0);
  CHECK(with({0, 3}, 2) == 1);
  CHECK(with({2, 0}, 2) == 1);
  CHECK(with({-1, 0}, 2) == 1);
  CHECK(with({0, 2}, 1) == 1);
}

TEST_CASE("verify lists everything, not only the first") {
  const VerifyResult result = verify(
      {.codes = {-128, -128, 3, 4, 5, 6}, .scales = {-1.0f, NAN}, .format = {7}, .config = "{]"});
  std::multiset<std::string> kinds;
  for (const auto& finding : result.findings) kinds.insert(finding.kind);
  INFO(kvant::look::to_text(result));
  CHECK(kinds == std::multiset<std::string>{"codes", "json", "scale", "scale", "weight_format"});
  CHECK(result.count(Severity::error) == 4);
  CHECK_FALSE(result.ok());
  const auto json = nlohmann::json::parse(to_json(result));
  CHECK(json.at("findings").size() == 5);
  CHECK(json.at("valid") == false);
}

TEST_CASE("verify compares config.json with the tensors") {
  const auto with = [](const std::string& quantization) {
    return only({.config = R"({"quantization_config": {"quant_method": "bitsandbytes", )" +
                           quantization + "}}"});
  };
  CHECK(only({.config = "{}"}) == "error config");
  CHECK(only({.config = R"({"quantization_config": null})"}) == "error config");
  CHECK(only({.config = R"({"quantization_config": 3})"}) == "error config");
  CHECK(with(R"("load_in_8bit": true, "llm_int8_threshold": "6")") == "error config");
  CHECK(with(R"("load_in_8bit": true, "llm_int8_threshold": -1)") == "error config");
  CHECK(with(R"("load_in_8bit": true, "llm_int8_skip_modules": ["q_proj"])") == "error config");
  CHECK(with(R"("load_in_8bit": true, "llm_int8_skip_modules": "lm_head")") == "error config");
  CHECK(only({.config = R"({"quantization_config": {"quant_method": "exl3"}})"}) ==
        "warning config");
  CHECK(verify({.config = R"({"a": 1, "a": 2})"}).findings.front().kind == "duplicate");
  // Both at once: that is one thing, and that there are no 4-bit layers another.
  CHECK(verify({.config = R"({"quantization_config": {"quant_method": "bitsandbytes",
                              "load_in_8bit": true, "load_in_4bit": true}})"})
            .count(Severity::error) == 2);
  // 8 bits are promised, and there are none.
  CheckpointBuilder plain;
  plain.config(kConfig).add("q_proj.weight", {2, 3}, wave(6, 1));
  CHECK(verify_checkpoint(plain.write()).count(Severity::error) == 1);
}

TEST_CASE("verify compares config.json with shapes: groups, blocks of a model, its embedding") {
  const auto verify_with = [](const char* model, const auto& change) {
    const kvant::test::TempFolder folder;
    const std::filesystem::path from = kvant::test::data_path(model);
    for (const char* name : {"model.safetensors", "config.json"}) {
      std::filesystem::copy_file(from / name, folder.path() / name);
    }
    nlohmann::json config = kvant::test::read_json(std::string(model) + "/config.json");
    change(config);
    folder.write("config.json", config.dump());
    return verify_checkpoint(folder.path());
  };
  const auto nothing = [](nlohmann::json&) {};
  const auto one_error = [&](const char* model, const auto& change, const char* words) {
    const VerifyResult result = verify_with(model, change);
    INFO(model << ": " << to_text(result));
    CHECK(result.count(Severity::error) >= 1);
    CHECK(to_text(result).find(words) != std::string::npos);
  };
  CHECK(verify_with("gptq_awq/awq_4bit_g32", nothing).ok());
  CHECK(verify_with("families/llama_bias", nothing).ok());
  one_error(
      "gptq_awq/awq_4bit_g32",
      [](auto& config) { config["quantization_config"]["group_size"] = 64; },
      "config.json says 64");
  one_error(
      "gptq_awq/awq_4bit_g32",
      [](auto& config) { config["quantization_config"]["group_size"] = UINT64_MAX; },
      "group_size is 18446744073709551615");
  one_error(
      "families/llama_bias", [](auto& config) { config["num_hidden_layers"] = 1; },
      "num_hidden_layers is 1, but the tensors are of");
  one_error(
      "families/llama_bias", [](auto& config) { config["num_hidden_layers"] = 77; },
      "num_hidden_layers is 77");
  one_error(
      "families/llama_bias", [](auto& config) { config["hidden_size"] = 48; },
      "hidden_size is 48, but tensor");
  one_error(
      "families/llama_bias", [](auto& config) { config["vocab_size"] = 64; },
      "vocab_size is 64, but tensor");
  one_error(
      "families/llama_bias", [](auto& config) { config["num_attention_heads"] = 2; },
      "num_attention_heads is 2, but tensor");
  one_error(
      "families/llama_bias", [](auto& config) { config["intermediate_size"] = 4096; },
      "intermediate_size is 4096, but tensor");
  for (const auto& entry :
       std::filesystem::directory_iterator(kvant::test::data_path("families"))) {
    if (!std::filesystem::exists(entry.path() / "config.json")) continue;
    const VerifyResult result = verify_checkpoint(entry.path());
    INFO(entry.path() << ": " << to_text(result));
    CHECK(result.ok());
  }
  const VerifyResult nameless =
      verify_with("families/llama_bias", [](auto& config) { config.erase("model_type"); });
  CHECK(to_text(nameless).find("model_type is missing") != std::string::npos);
  // Without the embedding of tokens.
  CheckpointBuilder builder;
  builder.config(R"({"model_type": "llama", "num_hidden_layers": 1})");
  builder.add("model.layers.0.mlp.up_proj.weight", {2, 3}, std::vector<float>(6));
  builder.add("model.norm.weight", {3}, std::vector<float>(3));
  CHECK(to_text(verify_checkpoint(builder.write())).find("model.embed_tokens.weight") !=
        std::string::npos);
}

TEST_CASE("verify counts NaN and infinities, and misses no stray scales") {
  CheckpointBuilder builder;
  builder.config("{}");
  builder.add<float>("a.weight", {4}, {1, NAN, INFINITY, -INFINITY});
  builder.add<kvant::float16>("b.weight", {2}, {kvant::float16(NAN), kvant::float16(1.0f)});
  builder.add<float>("c.SCB", {2}, {1, 1});
  builder.add<std::int64_t>("d", {1}, {-1});
  const VerifyResult result = verify_checkpoint(builder.write());
  INFO(kvant::look::to_text(result));
  REQUIRE(result.findings.size() == 3);
  CHECK(result.count(Severity::error) == 1);  // scales of nothing
  std::string all = to_text(result);
  CHECK(all.find("1 NaN and 2 infinite") != std::string::npos);
  CHECK(all.find("1 NaN and 0 infinite") != std::string::npos);
  CHECK(all.find("c.weight") != std::string::npos);
}

TEST_CASE("verify checks 4-bit layers against their description") {
  const auto findings = [](const std::string& state, std::size_t packed, std::size_t absmax) {
    CheckpointBuilder builder;
    builder.config(R"({"quantization_config": {"quant_method": "bitsandbytes",
                       "load_in_4bit": true}})");
    builder.add("q_proj.weight", {packed, 1}, std::vector<std::uint8_t>(packed, 0x5a));
    builder.add("q_proj.weight.absmax", {absmax}, std::vector<float>(absmax, 1.0f));
    builder.add("q_proj.weight.quant_map", {16}, wave(16, 1));
    builder.add("q_proj.weight.quant_state.bitsandbytes__nf4", {state.size()},
                std::vector<std::uint8_t>(state.begin(), state.end()));
    return verify_checkpoint(builder.write()).findings.size();
  };
  const std::string state =
      R"({"quant_type":"nf4","blocksize":64,"dtype":"float16","shape":[16,9]})";
  CHECK(findings(state, 72, 3) == 0);
  CHECK(findings(state, 71, 3) == 1);
  CHECK(findings(state, 72, 2) == 1);
  CHECK(findings("{", 72, 3) == 1);
  CHECK(findings(R"({"quant_type":"nf5"})", 72, 3) == 1);
  CHECK(findings(R"({"quant_type":"nf4","blocksize":0,"dtype":"float16","shape":[16,9]})", 72, 3) ==
        1);
  CHECK(findings(R"({"quant_type":"nf4","blocksize":64,"dtype":"float16","shape":[16,-9]})", 72,
                 3) == 1);
}

TEST_CASE("verify looks at each shard, also where others are broken") {
  const kvant::test::TempFolder folder;
  kvant::io::SafeTensorsWriter writer;
  const std::vector<float> bad = {NAN};
  writer.add("a", kvant::MatrixView<const float>(bad.data(), 1, 1));
  writer.write(folder.path() / "one.safetensors");
  folder.write("two.safetensors", "short");
  folder.write("model.safetensors.index.json",
               R"({"weight_map": {"a": "one.safetensors", "b": "two.safetensors",
                                  "c": "three.safetensors"}})");
  folder.write("config.json", "{}");
  const VerifyResult result = verify_checkpoint(folder.path());
  INFO(kvant::look::to_text(result));
  std::set<std::string> kinds;
  for (const auto& finding : result.findings) kinds.insert(finding.kind);
  CHECK(kinds == std::set<std::string>{"too_small", "missing_shard", "not_finite"});
  CHECK(result.files == 1);
  CHECK_THROWS_AS(verify_checkpoint(folder.path() / "none"), kvant::Error);
}

TEST_CASE("verify gives every golden file its verdict") {
  const auto verdicts = kvant::test::read_json("safetensors/verdicts.json");
  for (const char* list : {"files", "indexes"}) {
    for (const auto& entry : verdicts.at(list)) {
      const auto path =
          kvant::test::data_path("safetensors/" + entry.at("file").get<std::string>());
      const VerifyResult result = verify_checkpoint(path);
      INFO(path << "\n" << to_text(result));
      CHECK(result.ok() == (entry.at("kvant") == "accept"));
      for (const auto& finding : result.findings) {
        CHECK(finding.message.find('\n') == std::string::npos);
      }
    }
  }
}

TEST_CASE(
    "verify: sizes of codes are those of [outputs, inputs], also where floats are transposed") {
  // GPT-2, whose config says how wide its MLP is.
  const TempFolder folder;
  for (const auto scheme : {kvant::io::WeightScheme::llm_int8, kvant::io::WeightScheme::fp16}) {
    const auto out = folder.path() / std::string(to_string(scheme));
    kvant::io::quantize_checkpoint(kvant::test::data_path("families/gpt2_inverse_layer"), out,
                                   {.scheme = scheme});
    const auto result = kvant::look::verify_checkpoint(out);
    INFO(kvant::look::to_text(result));
    CHECK(result.findings.empty());
  }
}
