// LoRA adapters beside models and merged into them, against PEFT.
// tests/data/adapters/make_adapters.py made them.

#include "kvant/models/adapter.hpp"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "kvant/io/safetensors.hpp"
#include "kvant/models/model_files.hpp"
#include "models/golden_values.hpp"
#include "models/run_model.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"
#include "support/folders.hpp"
#include "support/temp_folder.hpp"

namespace {

using kvant::ErrorCode;
using kvant::io::SafeTensors;
using kvant::models::Model;
using kvant::models::ModelKind;
using kvant::models::TokenId;
using kvant::test::code_of;
using kvant::test::ids_in;
using kvant::test::kData;
using kvant::test::largest;
using kvant::test::largest_difference;
using kvant::test::relative_error;
using kvant::test::TempFolder;
using nlohmann::json;
using Ids = std::vector<TokenId>;
using Path = std::filesystem::path;

struct AdapterCase {
  const char* adapter;
  const char* model;
};
constexpr AdapterCase kAdapterCases[] = {{"llama", "families/llama_bias"},
                                         {"gpt2", "families/gpt2_inverse_layer"},
                                         {"t5", "encoders/t5"},
                                         {"bert", "encoders/bert_masked"}};

Model load_with(kvant::Context& context, const Path& folder, const Path& adapter,
                const char* scheme) {
  const kvant::models::Config config = kvant::models::load_config(folder / "config.json");
  kvant::models::Request request;
  request.scheme = kvant::models::scheme_from_name(scheme);
  kvant::models::LoadOptions options;
  options.plan = make_plan(config, request);
  options.adapter = adapter;
  return load_model(context, folder, config, options);
}

std::vector<float> golden_logits(kvant::Context& context, const Model& model,
                                 const SafeTensors& file) {
  const Ids ids = ids_in(file, "input_ids");
  std::vector<float> hidden;
  kvant::models::Cache cache;
  switch (model.config.kind) {
    case ModelKind::decoder: hidden = forward(context, model, ids, cache); break;
    case ModelKind::encoder:
      hidden = encode(context, model, ids, ids_in(file, "token_types"));
      break;
    case ModelKind::encoder_decoder:
      read_source(context, model, ids, cache);
      hidden = forward(context, model, ids_in(file, "decoder_input_ids"), cache);
      break;
  }
  const auto rows = static_cast<std::int64_t>(hidden.size()) / model.config.n_embd;
  std::vector<float> logits(static_cast<std::size_t>(rows * model.config.vocab_size));
  compute_logits(context, model, {hidden.data(), rows, model.config.n_embd},
                 {logits.data(), rows, model.config.vocab_size});
  return logits;
}

}  // namespace

TEST_CASE("adapters: logits of PEFT, in float and beside quantized layers") {
  kvant::Context context;
  for (const AdapterCase& each : kAdapterCases) {
    const Path adapter = kData / "adapters" / each.adapter;
    const SafeTensors expected(adapter / "expected.safetensors");
    const auto logits = expected.values<float>("logits");
    const Model exact = load_with(context, kData / each.model, adapter, "fp32");
    INFO(each.adapter);
    CHECK(largest_difference(golden_logits(context, exact, expected), logits) <=
          1e-5 * largest(logits));
    for (const char* scheme : {"bf16", "int8", "llm-int8", "int8-group", "nf4", "fp8"}) {
      INFO(scheme);
      const Model model = load_with(context, kData / each.model, adapter, scheme);
      const Model plain = load_with(context, kData / each.model, {}, scheme);
      CHECK(model.weight_bytes() > plain.weight_bytes());
      const double with = relative_error(golden_logits(context, model, expected), logits);
      CHECK(with < (std::string(scheme) == "nf4" ? 0.6 : 0.25));
      CHECK(with < relative_error(golden_logits(context, plain, expected), logits));
    }
  }
}

TEST_CASE("adapters: merged as PEFT merges, and the same logits") {
  kvant::Context context;
  for (const AdapterCase& each : kAdapterCases) {
    INFO(each.adapter);
    const TempFolder folder;
    const Path adapter = kData / "adapters" / each.adapter;
    const SafeTensors expected(adapter / "expected.safetensors");
    const Path out = folder.path() / "merged";
    const auto summary = kvant::models::merge_adapter(kData / each.model, adapter, out);
    CHECK(summary.layers.size() == kvant::models::load_adapter(adapter).layers.size());
    std::string name = kvant::test::read_text(adapter / "merged_name.txt");
    name.pop_back();
    const SafeTensors merged(out / "model.safetensors");
    const auto bits = merged.values<kvant::bfloat16>(name + ".weight");
    const auto wanted = expected.values<float>("merged");
    REQUIRE(bits.size() == wanted.size());
    // Rounded to the model's bf16: half an ulp, and what fp32 sums differ by.
    bool near = true;
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      const float value = static_cast<float>(bits[i]);
      near = near && std::fabs(value - wanted[i]) <= std::fabs(wanted[i]) / 256 + 1e-6f;
    }
    CHECK(near);
    const Model model = load_with(context, out, {}, "fp32");
    const auto logits = expected.values<float>("logits");
    CHECK(relative_error(golden_logits(context, model, expected), logits) < 0.02);
    // Everything else is what it was.
    const SafeTensors before(kData / each.model / "model.safetensors");
    CHECK(before.tensors().size() == merged.tensors().size());
    CHECK(code_of([&] { (void)kvant::models::merge_adapter(kData / each.model, adapter, out); }) !=
          ErrorCode::ok);  // it is there already
    kvant::io::MergeCheckpointOptions force;
    force.job.force = true;
    CHECK_NOTHROW(kvant::models::merge_adapter(kData / each.model, adapter, out, force));
  }
}

TEST_CASE("adapters: what is no plain LoRA, or another model's, is refused by name") {
  kvant::Context context;
  const TempFolder folder;
  const Path source = kData / "adapters" / "llama";
  const json good = json::parse(kvant::test::read_text(source / "adapter_config.json"));
  std::filesystem::copy(source / "adapter_model.safetensors", folder.path());
  std::string message;
  const auto code = [&](const char* key, const json& value) {
    json config = good;
    config[key] = value;
    std::ofstream(folder.path() / "adapter_config.json") << config;
    try {
      (void)kvant::models::load_adapter(folder.path());
    } catch (const kvant::Error& error) {
      message = error.what();
      CHECK(message.find(key) != std::string::npos);
      return error.code();
    }
    return ErrorCode::ok;
  };
  CHECK(code("r", 4) == ErrorCode::ok);
  CHECK(code("target_modules", "all-linear") == ErrorCode::ok);
  CHECK(code("target_modules", ".*\\.(q_proj|v_proj|down_proj)") == ErrorCode::ok);
  CHECK(code("use_dora", true) == ErrorCode::unsupported);
  CHECK(code("modules_to_save", {"lm_head"}) == ErrorCode::unsupported);
  CHECK(code("alpha_pattern", {{"q_proj", 3}}) == ErrorCode::unsupported);
  CHECK(code("bias", "all") == ErrorCode::unsupported);
  CHECK(code("lora_bias", true) == ErrorCode::unsupported);
  CHECK(code("peft_type", "IA3") == ErrorCode::unsupported);
  CHECK(code("init_lora_weights", "pissa_niter_16") == ErrorCode::unsupported);
  CHECK(code("init_lora_weights", "gaussian") == ErrorCode::ok);
  CHECK(code("target_modules", {"q_proj"}) == ErrorCode::invalid_file);
  CHECK(code("layers_to_transform", {0, 1, 2, 3}) == ErrorCode::ok);
  CHECK(code("layers_to_transform", 0) == ErrorCode::invalid_file);  // there are more
  CHECK(code("layers_to_transform", {"x"}) == ErrorCode::invalid_file);
  CHECK(code("layers_pattern", "h") == ErrorCode::unsupported);
  CHECK(code("target_modules", ".*q_proj") == ErrorCode::invalid_file);
  CHECK(code("target_modules", 3) == ErrorCode::invalid_file);
  CHECK(code("target_modules", {3}) == ErrorCode::invalid_file);
  CHECK(code("r", -1) == ErrorCode::invalid_file);
  json config = good;
  config["r"] = 9;  // not the rank of the matrices
  std::ofstream(folder.path() / "adapter_config.json") << config;
  CHECK(code_of([&] { (void)kvant::models::load_adapter(folder.path()); }) ==
        ErrorCode::invalid_file);

  const auto beside = [&](const char* model) {
    return code_of([&] { (void)load_with(context, kData / model, source, "int8"); });
  };
  CHECK(beside("families/llama_bias") == ErrorCode::ok);
  CHECK(beside("families/llama_linear") == ErrorCode::shape_mismatch);  // other heads
  CHECK(beside("families/gpt_neox") == ErrorCode::shape_mismatch);
  const auto merge = [&](const char* model) {
    return code_of(
        [&] { (void)kvant::models::merge_adapter(kData / model, source, folder.path() / "out"); });
  };
  CHECK(merge("families/llama_linear") == ErrorCode::shape_mismatch);
  CHECK(merge("families/gpt_neox") == ErrorCode::shape_mismatch);
  CHECK(merge("checkpoints/bnb_int8") == ErrorCode::unsupported);
  CHECK_FALSE(std::filesystem::exists(folder.path() / "out"));
}
