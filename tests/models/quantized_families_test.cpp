// QuantizedModel on whole models: every family, DummyModel, and flan-t5's shapes.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "../../examples/dummy_model.hpp"
#include "kvant/io/architecture.hpp"
#include "kvant/io/safetensors.hpp"
#include "kvant/models/quantized_model.hpp"
#include "models/run_model.hpp"
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
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::relative_error;
using Ids = std::vector<TokenId>;

const std::vector<LayerQuantization> kCombinations = [] {
  std::vector<LayerQuantization> all;
  for (const WeightFormat weights :
       {WeightFormat::int8_row, WeightFormat::int4_group, WeightFormat::int2_group,
        WeightFormat::fp8_row, WeightFormat::nf4}) {
    for (const ActivationCodes activations :
         {ActivationCodes::none, ActivationCodes::int8, ActivationCodes::fp8}) {
      all.push_back({.weights = weights, .activations = activations});
    }
  }
  return all;
}();

std::string name_of(const LayerQuantization& q) {
  const char* const activations[] = {"none", "int8", "fp8"};
  return std::string(to_string(*q.weights)) + ", activations " +
         activations[static_cast<int>(q.activations)];
}

std::vector<std::filesystem::path> family_folders() {
  std::vector<std::filesystem::path> folders;
  for (const char* const set : {"families", "encoders", "checkpoints"}) {
    for (const auto& entry :
         std::filesystem::directory_iterator(std::filesystem::path(KVANT_TEST_DATA) / set)) {
      const bool floats = std::string(set) != "checkpoints" || entry.path().filename() == "fp32";
      if (floats && std::filesystem::exists(entry.path() / "config.json")) {
        folders.push_back(entry.path());
      }
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

std::set<std::string> names_of(const QuantizedModel& model) {
  std::set<std::string> names;
  for (std::size_t i = 0; i < model.size(); ++i) names.insert(model.name(i));
  CHECK(names.size() == model.size());
  return names;
}

/// The matrices of the file that schemes quantize, by their full names.
std::set<std::string> linears_in(const std::filesystem::path& folder,
                                 const kvant::models::Config& config) {
  const kvant::io::Architecture& family = *kvant::io::find_architecture(config.model_type);
  const std::string tokens = std::string(family.tokens) + ".weight";
  const kvant::io::SafeTensors file(folder / "model.safetensors");
  const std::string prefix = file.contains(tokens) ? std::string(family.prefix) : "";
  std::set<std::string> names;
  for (const auto& tensor : file.tensors()) {
    const std::string_view name = tensor.name;
    const auto has = [&](std::string_view part) { return name.find(part) != name.npos; };
    if (tensor.shape.size() != 2 || !name.ends_with(".weight")) continue;
    // Tables, vocabulary heads, routers, T5's wo.
    if (has("embed") || has("wte") || has("wpe") || (has("lm_head") && !has("lm_head.dense")) ||
        has("shared.") || has("relative_attention_bias") || has("decoder.weight") ||
        has("pooler") || has("block_sparse_moe.gate.") || has("project_in") || has("project_out") ||
        has(".wo.")) {
      continue;
    }
    const std::string layer(name.substr(0, name.size() - 7));
    const bool head = has("predictions") || has("lm_head.dense");
    names.insert(head ? layer : prefix + layer);
  }
  return names;
}

/// Logits of any kind of model; of one with an encoder beside a decoder both read the ids.
std::vector<float> run(Context& context, const kvant::models::Model& model, const Ids& ids) {
  if (model.config.kind == kvant::models::ModelKind::decoder) {
    return kvant::test::logits_of(context, model, ids);
  }
  if (model.config.kind == kvant::models::ModelKind::encoder) {
    std::vector<float> hidden = encode(context, model, ids);
    if (!model.head.dense) return hidden;
    const auto rows = static_cast<std::int64_t>(ids.size());
    std::vector<float> logits(ids.size() * static_cast<std::size_t>(model.config.vocab_size));
    compute_logits(context, model, {hidden.data(), rows, model.config.n_embd},
                   {logits.data(), rows, model.config.vocab_size});
    return logits;
  }
  kvant::models::Cache cache;
  read_source(context, model, ids, cache);
  return kvant::test::logits_of(context, model, ids, cache);
}

}  // namespace

TEST_CASE("QuantizedModel: every family, quantized, calibrated, frozen") {
  Context context;
  std::set<std::string_view> seen;
  for (const auto& folder : family_folders()) {
    INFO(folder.string());
    const kvant::models::Model floats = kvant::test::load(context, folder);
    seen.insert(floats.config.model_type);
    Ids ids(static_cast<std::size_t>(std::min<std::int64_t>(24, floats.config.n_positions)));
    for (std::size_t i = 0; i < ids.size(); ++i) {
      ids[i] =
          static_cast<TokenId>((i * 37 + 5) % static_cast<std::size_t>(floats.config.vocab_size));
    }
    const std::vector<float> exact = run(context, floats, ids);
    for (const LayerQuantization& combination : kCombinations) {
      INFO(name_of(combination));
      kvant::models::Model model = kvant::test::load(context, folder);
      const std::size_t before = model.weight_bytes();
      QuantizedModel quantized;
      quantized.take_layers(context, model);
      CHECK(relative_error(run(context, model, ids), exact) <= 1e-5);
      CHECK(names_of(quantized) == linears_in(folder, model.config));
      // An expert of a mixture may see no token of a text: floats there.
      const bool experts = model.config.n_expert > 0;
      std::vector<kvant::models::LayerQuantizationRule> rules;
      if (experts) rules.push_back({"*.experts.*", {.weights = combination.weights}});
      quantized.quantize(combination, rules);
      if (combination.activations != ActivationCodes::none) {
        CHECK(code_of([&] { run(context, model, ids); }) == ErrorCode::invalid_argument);
        const Calibration calibration(quantized);
        run(context, model, ids);
      }
      const std::vector<float> learned = run(context, model, ids);
      quantized.freeze(context);
      CHECK(run(context, model, ids) == learned);
      // Static codes of 8-bit floats have three bits behind the first.
      const double of_weights = kvant::test::error_of(kvant::models::Scheme(*combination.weights));
      const double of_inputs = combination.activations == ActivationCodes::fp8 ? 0.45 : 0.0;
      CHECK(relative_error(learned, exact) <= std::max(of_weights, of_inputs));
      CHECK(model.weight_bytes() < before);
    }
  }
  const auto all = kvant::models::families();
  CHECK(seen == std::set<std::string_view>(all.begin(), all.end()));
}

TEST_CASE("QuantizedModel: a model's layers are taken whole, or not at all") {
  Context context;
  const auto folder = std::filesystem::path(KVANT_TEST_DATA) / "families" / "qwen3";
  const Ids ids = {1, 2, 3, 4};
  std::string message;
  for (const char* const scheme : {"bf16", "llm-int8", "int4"}) {
    kvant::models::Model model = kvant::test::load(context, folder, scheme);
    const auto before = run(context, model, ids);
    QuantizedModel quantized;
    CHECK(code_of([&] { quantized.take_layers(context, model); }, &message) ==
          ErrorCode::unsupported);
    CHECK(message.find("scheme fp32") != std::string::npos);
    CHECK(run(context, model, ids) == before);
    CHECK(quantized.footprint() == 0);
  }
  kvant::models::Model model = kvant::test::load(context, folder);
  const auto exact = run(context, model, ids);
  {
    QuantizedModel quantized;
    const std::vector<float> zeros(4);
    quantized.add("model.layers.0.self_attn.k_proj", MatrixView<const float>(zeros.data(), 2, 2));
    CHECK(code_of([&] { quantized.take_layers(context, model); }) == ErrorCode::invalid_argument);
    CHECK(quantized.footprint() == 16);
  }
  CHECK(run(context, model, ids) == exact);
  // Rules by the names of the file; and the model may outlive what quantized it.
  std::vector<float> frozen;
  {
    QuantizedModel quantized;
    quantized.take_layers(context, model);
    CHECK(code_of([&] { quantized.take_layers(context, model); }, &message) ==
          ErrorCode::unsupported);  // they are taken
    quantized.quantize({.weights = WeightFormat::int4_group},
                       {{"model.layers.0.*", {.weights = std::nullopt}},
                        {"*.down_proj", {.weights = WeightFormat::int8_row}}});
    {
      const Calibration calibration(quantized);
      kvant::models::Model other = kvant::test::load(context, folder);
      CHECK(code_of([&] { quantized.take_layers(context, other); }, &message) ==
            ErrorCode::invalid_argument);
      CHECK(message.find("is being calibrated") != std::string::npos);
    }
    frozen = run(context, model, ids);
    CHECK(frozen != exact);
    QuantizedModel moved = std::move(quantized);
    moved.freeze(context);
  }
  CHECK(run(context, model, ids) == frozen);
}

TEST_CASE("QuantizedModel: DummyModel of two by two weights") {
  const std::string folder = std::string(KVANT_TEST_DATA) + "/dummy_model/";
  const kvant::io::SafeTensors file(folder + "model.safetensors");
  const kvant::io::SafeTensors golden(folder + "expected.safetensors");
  const dummy::DummyModel<float> floats(folder + "model.safetensors");
  const std::vector<std::int64_t> ids = golden.values<std::int64_t>("input_ids");
  std::vector<std::pair<std::string, std::vector<float>>> trace;
  const std::vector<float> exact = floats.forward(ids, &trace);
  const std::vector<std::string> names = {"linear_1", "linear_2", "head"};
  for (const LayerQuantization& combination : kCombinations) {
    INFO(name_of(combination));
    Context context;
    QuantizedModel model;
    for (const std::string& name : names) {
      model.add(name, file.matrix<float>(name + ".weight"), file.values<float>(name + ".bias"));
    }
    CHECK(model.footprint() == 3 * (4 + 2) * sizeof(float));
    // Each layer on what the golden model gives it: the input of a layer is the output of the one
    // in front of it, norms included.
    const auto behind = [&](const std::string& part) -> const std::vector<float>& {
      return std::find_if(trace.begin(), trace.end(),
                          [&](const auto& entry) { return entry.first == part; })
          ->second;
    };
    const std::vector<std::string> in_front = {"token_embedding", "layernorm_1", "layernorm_2"};
    const auto outputs = [&] {
      std::vector<float> all;
      for (std::size_t layer = 0; layer < names.size(); ++layer) {
        const std::vector<float>& x = behind(in_front[layer]);
        const auto rows = static_cast<std::int64_t>(x.size() / 2);
        std::vector<float> y(x.size());
        model.forward(context, layer, {x.data(), rows, 2}, {y.data(), rows, 2});
        all.insert(all.end(), y.begin(), y.end());
      }
      return all;
    };
    std::vector<float> wanted;
    for (const std::string& name : names) {
      const std::vector<float>& values = behind(name);
      wanted.insert(wanted.end(), values.begin(), values.end());
    }
    model.quantize(combination);
    if (combination.activations != ActivationCodes::none) {
      const Calibration calibration(model);
      outputs();
    }
    const std::vector<float> learned = outputs();
    model.freeze(context);
    CHECK(outputs() == learned);
    const int bits = describe(*combination.weights).bits;
    CHECK(relative_error(learned, wanted) <= (bits > 4 ? 0.05 : bits > 2 ? 0.2 : 0.8));
    if (combination.weights == WeightFormat::int8_row) {
      // Codes and a scale a row, biases and the scales of activations.
      CHECK(model.footprint() == 3 * (4 + 2 * 4 + 2 * 4 + 2 * 4));
    }
  }
  CHECK(exact == trace.back().second);
  const auto of_torch = golden.values<float>("logits.float32");
  for (std::size_t i = 0; i < exact.size(); ++i) CHECK(std::fabs(exact[i] - of_torch[i]) < 1e-6f);
}

TEST_CASE("QuantizedModel: flan-t5-small's shapes take the bytes that quanto leaves of them") {
  const auto golden = kvant::test::read_json("linear_quantizers/flan_t5.json");
  const auto names = golden.at("quantized").get<std::vector<std::string>>();
  Context context;
  QuantizedModel model;
  std::size_t others = 0;
  std::vector<float> weights;
  for (const auto& parameter : golden.at("parameters")) {
    const auto name = parameter.at(0).get<std::string>();
    const auto shape = parameter.at(1).get<std::vector<std::int64_t>>();
    const auto size = static_cast<std::size_t>(
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
    const auto is_of = [&](const std::string& layer) { return name == layer + ".weight"; };
    const auto layer = std::find_if(names.begin(), names.end(), is_of);
    if (layer == names.end()) {
      others += size * sizeof(float);
      continue;
    }
    REQUIRE(shape.size() == 2);
    for (std::size_t i = weights.size(); i < size; ++i) {
      weights.push_back(std::sin(static_cast<float>(i % 1009)));
    }
    model.add(*layer, MatrixView<const float>(weights.data(), shape[0], shape[1]));
  }
  CHECK(static_cast<double>(model.footprint() + others) / 1e9 == 0.307844608);
  model.quantize({.weights = WeightFormat::int8_row});
  model.freeze(context);
  CHECK(static_cast<double>(model.footprint() + others) / 1e9 == 0.12682868);
}
