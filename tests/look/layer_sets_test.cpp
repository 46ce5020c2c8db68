// What quantize_checkpoint writes loads in transformers: for 78 architectures, the layers that
// become int8 are those that transformers replaces, and verify_checkpoint finds it where they are
// not.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "io/checkpoint/skip_modules.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/safetensors_stream.hpp"
#include "kvant/look/verify.hpp"
#include "support/catch.hpp"
#include "support/golden.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::io::CheckpointSummary;
using kvant::io::quantize_checkpoint;
using kvant::io::Severity;
using kvant::look::verify_checkpoint;
using kvant::look::VerifyResult;
using kvant::test::TempFolder;
using nlohmann::json;

json layer_sets() {
  return json::parse(kvant::test::read_text(kvant::test::data_path("layer_sets/layer_sets.json")));
}

/// The float checkpoint of a model; all weights are 0.
void write_model(const TempFolder& folder, const json& model) {
  folder.write("config.json", model.at("config").dump());
  std::vector<kvant::io::TensorSpec> specs;
  for (const auto& [name, shape] : model.at("tensors").items()) {
    specs.push_back({name, DType::float16, shape.get<std::vector<std::uint64_t>>()});
  }
  const auto path = folder.path() / "model.safetensors";
  kvant::io::SafeTensorsStream out(path, specs);
  for (const auto& spec : specs) {
    out.write(spec.name, 0, std::vector<std::byte>(kvant::io::byte_size(spec)));
  }
  out.commit();
}

std::set<std::string> int8_weights(const CheckpointSummary& summary) {
  std::set<std::string> result;
  for (const auto& layer : summary.layers) {
    if (layer.scheme.quantizes()) result.insert(layer.name + ".weight");
  }
  return result;
}

/// Routers stay in float, also where transformers would quantize them; the list says so.
bool is_router(const std::string& name) {
  return name.find(".router.") != std::string::npos;
}

/// The result's config.json with another quantization_config.
template <class Change>
VerifyResult verify_changed(const TempFolder& folder, Change change) {
  const fs::path out = folder.path() / "out";
  json config = json::parse(kvant::test::read_text(out / "config.json"));
  const json before = config;
  change(config["quantization_config"]);
  folder.write("out/config.json", config.dump());
  VerifyResult result = verify_checkpoint(out);
  folder.write("out/config.json", before.dump());
  return result;
}

}  // namespace

TEST_CASE("layer sets: what becomes int8 is what transformers replaces, and verify agrees") {
  std::size_t models = 0;
  const json all = layer_sets();
  for (const auto& [name, model] : all.items()) {
    INFO(name);
    ++models;
    const TempFolder folder;
    write_model(folder, model);
    const CheckpointSummary summary = quantize_checkpoint(folder.path(), folder.path() / "out");
    for (const auto& warning : summary.warnings) {
      CHECK(warning.kind != kvant::io::WarningKind::unknown_model);
    }
    auto wanted = model.at("int8").get<std::set<std::string>>();
    std::erase_if(wanted, is_router);
    CHECK(int8_weights(summary) == wanted);
    // The list keeps no module in float that is int8 in the file, whatever its name when loaded.
    const json& modules = model.contains("modules") ? model.at("modules") : model.at("int8");
    for (std::string module : modules) {
      if (module.ends_with(".weight")) module.resize(module.size() - 7);
      for (const std::string& entry : summary.skip_modules) {
        INFO(entry << " and " << module);
        const bool skipped = kvant::io::skips(entry, module).value();
        CHECK((!skipped || is_router(module)));
      }
    }
    const VerifyResult result = verify_checkpoint(folder.path() / "out");
    INFO(to_text(result));
    CHECK(result.findings.empty());
  }
  CHECK(models == 78);
}

TEST_CASE("layer sets: verify finds a layer that the loaded model has in another form") {
  const json all = layer_sets();
  for (const auto& [name, model] : all.items()) {
    const auto int8 = model.at("int8").get<std::vector<std::string>>();
    if (int8.empty() || model.contains("modules")) continue;  // renamed: see skip_modules_test
    INFO(name);
    const TempFolder folder;
    write_model(folder, model);
    const CheckpointSummary summary = quantize_checkpoint(folder.path(), folder.path() / "out");
    const auto errors = [](const VerifyResult& result) { return result.count(Severity::error); };
    // Codes in a layer that the list keeps in float.
    CHECK(errors(verify_changed(folder, [&](json& section) {
            section["llm_int8_skip_modules"].push_back(
                int8.front().substr(0, int8.front().size() - 7));
          })) >= 1);
    // Floats in a layer that is not kept: all entries gone.
    const bool any_float =
        name.find("alcon") == std::string::npos &&
        std::any_of(
            summary.layers.begin(), summary.layers.end(), [](const kvant::io::PlannedLayer& layer) {
              return !layer.scheme.quantizes() && layer.name.find("router") == std::string::npos &&
                     layer.name.find("gate") == std::string::npos &&
                     layer.name.find("experts") == std::string::npos && !layer.name.ends_with("wo");
            });
    if (any_float) {
      CHECK(errors(verify_changed(folder, [](json& section) {
              section["llm_int8_skip_modules"] = json::array();
            })) >= 1);
    }
    // transformers finds the head itself.
    CHECK(errors(verify_changed(
              folder, [](json& section) { section["llm_int8_skip_modules"] = nullptr; })) == 0);
  }
}

TEST_CASE("layer sets: what cannot be an 8-bit layer is named by verify") {
  const json all = layer_sets();
  const auto spoil = [&](const char* name, const std::string& layer) {
    const json& model = all.at(name);
    const TempFolder folder;
    json half = model;  // the layer alone is int8; the rest is written as it was
    const auto shape = model.at("tensors").at(layer + ".weight").get<std::vector<std::uint64_t>>();
    std::vector<kvant::io::TensorSpec> specs;
    for (const auto& [tensor, dims] : model.at("tensors").items()) {
      const bool codes = tensor == layer + ".weight";
      specs.push_back(
          {tensor, codes ? DType::int8 : DType::float16, dims.get<std::vector<std::uint64_t>>()});
    }
    specs.push_back({layer + ".SCB", DType::float32, {shape[0]}});
    folder.write("config.json", [&] {
      json config = model.at("config");
      config["quantization_config"] = {{"quant_method", "bitsandbytes"},
                                       {"load_in_8bit", true},
                                       {"llm_int8_skip_modules", {"^(?!x)"}}};
      return config.dump();
    }());
    kvant::io::SafeTensorsStream out(folder.path() / "model.safetensors", specs);
    for (const auto& spec : specs) {
      out.write(spec.name, 0, std::vector<std::byte>(kvant::io::byte_size(spec)));
    }
    out.commit();
    const VerifyResult result = verify_checkpoint(folder.path());
    INFO(to_text(result));
    const std::string text = to_text(result);
    return !result.ok() && text.find(layer) != std::string::npos;
  };
  CHECK(spoil("falcon", "transformer.h.0.mlp.dense_h_to_4h"));
  CHECK(spoil("llama", "model.embed_tokens"));
  CHECK(spoil("t5", "encoder.block.0.layer.1.DenseReluDense.wo"));
  CHECK(spoil("qwen3_moe", "model.layers.0.mlp.gate"));
  CHECK(spoil("qwen3_moe", "model.layers.0.mlp.experts.0.up_proj"));
}

TEST_CASE("layer sets: layers kept by names that the loaded model does not have are warned of") {
  const json all = layer_sets();
  const json& model = all.at("transformers/ViTForImageClassification");
  const TempFolder folder;
  write_model(folder, model);
  const auto kept = quantize_checkpoint(
      folder.path(), folder.path() / "out",
      {.rules = {{"*.0.*", kvant::io::WeightScheme::keep}}, .job = {.force = true}});
  REQUIRE(kept.warnings.size() == 1);
  CHECK(kept.warnings[0].kind == kvant::io::WarningKind::renamed_layers);
  CHECK(verify_checkpoint(folder.path() / "out").count(Severity::warning) > 0);
  CHECK(quantize_checkpoint(folder.path(), folder.path() / "out", {.job = {.force = true}})
            .warnings.empty());
}
