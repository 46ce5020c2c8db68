// Model folders as users have them: what converting makes of them, and what it says.

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include <algorithm>
#include <filesystem>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "io/user_models.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"
#include "support/catch.hpp"
#include "support/checkpoint_builder.hpp"
#include "support/error_code.hpp"
#include "support/temp_folder.hpp"

namespace {

namespace fs = std::filesystem;
using kvant::DType;
using kvant::ErrorCode;
using kvant::io::Checkpoint;
using kvant::io::CheckpointSummary;
using kvant::io::dequantize_checkpoint;
using kvant::io::quantize_checkpoint;
using kvant::io::WarningKind;
using kvant::io::WeightScheme;
using kvant::test::CheckpointBuilder;
using kvant::test::code_of;
using kvant::test::read_text;
using kvant::test::TempFolder;
using nlohmann::json;
using Names = std::set<std::string>;
using kvant::test::add;
using kvant::test::has;
using kvant::test::Shape;
using kvant::test::small_llama;
using kvant::test::warning;

Names quantized_layers(const CheckpointSummary& summary) {
  Names result;
  for (const auto& layer : summary.layers) {
    if (layer.scheme.quantizes()) result.insert(layer.name);
  }
  return result;
}

/// A plan for a model whose two-dimensional weights are given.
CheckpointSummary plan(const std::string& config,
                       const std::vector<std::pair<std::string, Shape>>& weights) {
  CheckpointBuilder builder;
  builder.config(config);
  for (const auto& [name, shape] : weights) add(builder, name, shape);
  return quantize_checkpoint(builder.write(), "unused", {.dry_run = true});
}

}  // namespace

TEST_CASE("user models: \"embed\" in a path is no embedding") {
  const auto phi =
      plan(R"({"model_type": "phi4mm", "vocab_size": 30})",
           {{"model.embed_tokens.weight", {30, 8}},
            {"lm_head.weight", {30, 8}},
            {"model.embed_tokens_extend.image_embed.layers.0.mlp.fc1.weight", {6, 4}},
            {"model.embed_tokens_extend.image_embed.img_projection.0.weight", {8, 4}}});
  CHECK(quantized_layers(phi) == Names{"model.embed_tokens_extend.image_embed.layers.0.mlp.fc1",
                                       "model.embed_tokens_extend.image_embed.img_projection.0"});
  const auto albert = plan(R"({"model_type": "albert", "vocab_size": 30})",
                           {{"albert.embeddings.word_embeddings.weight", {30, 4}},
                            {"albert.encoder.embedding_hidden_mapping_in.weight", {8, 4}},
                            {"albert.pooler.weight", {8, 8}}});
  CHECK(quantized_layers(albert) ==
        Names{"albert.encoder.embedding_hidden_mapping_in", "albert.pooler"});
  CHECK(albert.warnings.empty());
}

TEST_CASE("user models: the head is found in configs with sections, and dtypes are changed there") {
  const std::string config = R"({"model_type": "internvl_chat", "torch_dtype": "bfloat16",
      "llm_config": {"model_type": "internlm2", "torch_dtype": "bfloat16", "vocab_size": 30}})";
  CheckpointBuilder builder;
  builder.config(config);
  add(builder, "language_model.output.weight", {30, 8});
  add(builder, "language_model.model.tok_embeddings.weight", {30, 8});
  add(builder, "language_model.model.layers.0.attention.wqkv.weight", {24, 8});
  const std::string model = builder.write();
  const TempFolder folder;
  const auto summary = quantize_checkpoint(model, folder.path() / "int8");
  CHECK(quantized_layers(summary) == Names{"language_model.model.layers.0.attention.wqkv"});
  quantize_checkpoint(model, folder.path() / "half", {.scheme = WeightScheme::fp16});
  const json half = json::parse(read_text(folder.path() / "half/config.json"));
  CHECK(half["torch_dtype"] == "float16");
  CHECK(half["llm_config"]["torch_dtype"] == "float16");
  // What is float in the file stays as it is; the quantized layers become what the section names.
  dequantize_checkpoint(folder.path() / "int8", folder.path() / "back");
  const Checkpoint back(folder.path() / "back");
  CHECK(back.find("language_model.model.layers.0.attention.wqkv.weight")->dtype == DType::bfloat16);
  CHECK(back.find("language_model.output.weight")->dtype == DType::float32);
}

TEST_CASE("user models: only what was quantized changes its type, unless a dtype is given") {
  CheckpointBuilder builder;
  small_llama(builder, R"({"model_type": "llama", "dtype": "float16"})");
  add(builder, "model.layers.0.self_attn.rotary_emb.inv_freq", {4}, 1e6f);
  const std::string model = builder.write();
  const TempFolder folder;
  quantize_checkpoint(model, folder.path() / "int8");
  dequantize_checkpoint(folder.path() / "int8", folder.path() / "back");
  const Checkpoint back(folder.path() / "back");
  CHECK(back.find("model.layers.0.self_attn.rotary_emb.inv_freq")->dtype == DType::float32);
  CHECK(back.find("model.layers.0.mlp.up_proj.weight")->dtype == DType::float16);
  std::string message;
  CHECK(code_of(
            [&] {
              dequantize_checkpoint(folder.path() / "int8", folder.path() / "all",
                                    {.dtype = DType::float16});
            },
            &message) == ErrorCode::not_finite);
  CHECK(has(message, "inv_freq"));
  CHECK_FALSE(fs::exists(folder.path() / "all"));
}

TEST_CASE("user models: weights beyond fp16 are not made infinite") {
  for (const auto& [dtype, scale] : {std::pair(DType::float16, 7e4f), {DType::float32, 3.4e38f}}) {
    CheckpointBuilder builder;
    builder.config(R"({"model_type": "llama", "quantization_config":
                       {"quant_method": "bitsandbytes", "load_in_8bit": true}})");
    builder.add<std::int8_t>("model.layers.0.mlp.up_proj.weight", {2, 2}, {127, 1, 127, 2});
    builder.add<float>("model.layers.0.mlp.up_proj.SCB", {2}, {1, scale});
    const std::string model = builder.write();
    const TempFolder folder;
    std::string message;
    const DType to = dtype;  // what a binding names cannot be captured
    CHECK(code_of([&] { dequantize_checkpoint(model, folder.path() / "out", {.dtype = to}); },
                  &message) == ErrorCode::not_finite);
    CHECK(has(message, "up_proj"));
    CHECK(has(message, dtype == DType::float16 ? "70000" : "not finite"));
    CHECK(fs::is_empty(folder.path()));
  }
  CheckpointBuilder builder;
  add(small_llama(builder), "model.norm.weight", {2}, 3.4e38f);
  std::string message;
  CHECK(code_of(
            [&] { quantize_checkpoint(builder.write(), "unused", {.scheme = WeightScheme::bf16}); },
            &message) == ErrorCode::not_finite);
  CHECK(has(message, "model.norm.weight"));
}

TEST_CASE("user models: routers and experts stay, and experts are named with their share") {
  const auto unfused = plan(R"({"model_type": "minimax_m2", "vocab_size": 30})",
                            {{"model.layers.0.self_attn.q_proj.weight", {8, 8}},
                             {"model.layers.0.block_sparse_moe.experts.0.w1.weight", {16, 8}},
                             {"model.layers.0.block_sparse_moe.gate.weight", {4, 8}}});
  CHECK(quantized_layers(unfused) == Names{"model.layers.0.self_attn.q_proj"});
  CHECK(has(warning(unfused, WarningKind::experts_stay), "57%"));  // 128 of 224 elements
  CHECK(std::count(unfused.skip_modules.begin(), unfused.skip_modules.end(),
                   "model.layers.0.block_sparse_moe.experts") == 1);
  CHECK(std::count(unfused.skip_modules.begin(), unfused.skip_modules.end(),
                   "model.layers.0.block_sparse_moe.gate") == 1);
  const auto fused = plan(R"({"model_type": "qwen3_moe"})",
                          {{"model.layers.0.self_attn.q_proj.weight", {8, 8}},
                           {"model.layers.0.mlp.experts.gate_up_proj", {2, 8, 4}},
                           {"model.layers.0.mlp.gate.weight", {2, 8}}});
  CHECK(quantized_layers(fused) == Names{"model.layers.0.self_attn.q_proj"});
  CHECK(has(warning(fused, WarningKind::experts_stay), "44%"));
}

TEST_CASE("user models: a layer is kept without keeping others") {
  CheckpointBuilder builder;
  builder.config(R"({"model_type": "vit_like"})");
  for (const char* name : {"proj", "blocks.0.attn.proj", "blocks.0.mlp.fc1"}) {
    add(builder, std::string(name) + ".weight", {4, 4});
  }
  const auto summary = quantize_checkpoint(
      builder.write(), "unused", {.rules = {{"proj", WeightScheme::keep}}, .dry_run = true});
  CHECK(quantized_layers(summary) == Names{"blocks.0.attn.proj", "blocks.0.mlp.fc1"});
  CHECK(summary.skip_modules == std::vector<std::string>{"^proj$", "lm_head"});
}

TEST_CASE("user models: configs with NaN and infinities are kept as they are") {
  const std::string limits = "[\n    0.0,\n    Infinity,\n    -Infinity,\n    NaN\n  ]";
  CheckpointBuilder builder;
  small_llama(builder,
              "{\n  \"model_type\": \"llama\",\n  \"name\": \"NaN \\\" Infinity\",\n"
              "  \"time_step_limit\": " +
                  limits + "\n}\n");
  const TempFolder folder;
  quantize_checkpoint(builder.write(), folder.path() / "out");
  const std::string text = read_text(folder.path() / "out/config.json");
  CHECK(has(text, "\"time_step_limit\": " + limits));
  CHECK(has(text, "\"name\": \"NaN \\\" Infinity\""));
  for (const char* broken :
       {R"({"a": Infinity2})", R"({"a": nan})", R"({"a": NaN, "b": "\u0000NaN"})", R"({NaN: 1)"}) {
    CheckpointBuilder wrong;
    small_llama(wrong, broken);
    CHECK(code_of([&] { quantize_checkpoint(wrong.write(), folder.path() / "no"); }) ==
          ErrorCode::invalid_file);
  }
}

TEST_CASE("user models: quantized already, by whom it is said") {
  const auto refused = [](const std::string& config, auto fill) {
    CheckpointBuilder builder;
    builder.config(config);
    fill(builder);
    const std::string model = builder.write();
    std::string quantize;
    std::string dequantize;
    const TempFolder folder;
    CHECK(code_of([&] { quantize_checkpoint(model, folder.path() / "q"); }, &quantize) ==
          ErrorCode::unsupported);
    CHECK(has(quantize, "quantized already"));
    CHECK(code_of([&] { dequantize_checkpoint(model, folder.path() / "d"); }, &dequantize) ==
          ErrorCode::unsupported);
    CHECK(fs::is_empty(folder.path()));
    return quantize;
  };
  const auto plain = [](CheckpointBuilder& b) { add(b, "a.q_proj.weight", {2, 2}); };
  CHECK(has(refused(R"({"quantization_config": {"quant_method": "awq"}})", plain), "awq"));
  CHECK(has(refused(R"({"text_config": {"quantization_config":
                        {"quant_method": "compressed-tensors"}}})",
                    plain),
            "compressed-tensors"));
  CHECK(has(refused(R"({"compression_config": {}})", plain), "compressed-tensors"));
  CHECK(has(refused(R"({"quantization": {"bits": 4, "group_size": 64}})", plain), "mlx"));
  CHECK(has(refused("{}",
                    [](CheckpointBuilder& b) {
                      b.add<std::int16_t>("a.q_proj.qweight", {1, 2}, {1, 2});
                    }),
            "awq (gemv_fast)"));
  CHECK(has(refused("{}",
                    [](CheckpointBuilder& b) {
                      b.add<std::uint8_t>("a.q_proj.weight_packed", {2, 2}, {1, 2, 3, 4});
                      b.add<float>("a.q_proj.weight_global_scale", {1}, {1});
                    }),
            "compressed-tensors (nvfp4)"));
  CHECK(has(refused("{}",
                    [](CheckpointBuilder& b) {
                      b.add<std::uint32_t>("a.q_proj.weight", {2, 1}, {1, 2});
                      b.add<float>("a.q_proj.scales", {2, 1}, {1, 2});
                    }),
            "mlx"));
}

TEST_CASE("user models: an int8-group model whose config cannot be is not read") {
  CheckpointBuilder builder;
  small_llama(builder);
  const TempFolder folder;
  quantize_checkpoint(builder.write(), folder.path() / "out",
                      {.scheme = *kvant::io::weight_scheme_from_name("int8-group")});
  json config = json::parse(read_text(folder.path() / "out/config.json"));
  const json right = config;
  const auto dequantize = [&] {
    folder.write("out/config.json", config.dump());
    return code_of([&] {
      dequantize_checkpoint(folder.path() / "out", folder.path() / "back",
                            {.job = {.force = true}});
    });
  };
  CHECK(dequantize() == ErrorCode::ok);
  config["quantization_config"]["group_size"] = 48;  // no power of two
  CHECK(dequantize() == ErrorCode::invalid_file);
  config = right;
  config["quantization_config"]["ignore"] = 5;
  CHECK(dequantize() == ErrorCode::invalid_file);
}

TEST_CASE("user models: what layers would refuse later is refused at once") {
  CheckpointBuilder builder;
  builder.config(R"({"model_type": "llama"})");
  add(builder, "model.layers.0.mlp.down_proj.weight", {1, 131072});
  const std::string model = builder.write();
  std::string message;
  for (const char* scheme : {"llm-int8", "int8-group"}) {
    CHECK(code_of(
              [&] {
                quantize_checkpoint(model, "unused",
                                    {.scheme = *kvant::io::weight_scheme_from_name(scheme)});
              },
              &message) == ErrorCode::unsupported);
    CHECK(has(message, "131072"));
    CHECK(has(message, "--skip"));
  }
  CheckpointBuilder small;
  CHECK(code_of(
            [&] {
              quantize_checkpoint(small_llama(small).write(), "unused",
                                  {.outliers = kvant::Outliers::calibrated});
            },
            &message) == ErrorCode::invalid_argument);
  CHECK(has(message, "--calibrate"));
}

#if defined(__x86_64__)
TEST_CASE("user models: no rounding mode and no flush to zero changes what is written") {
  CheckpointBuilder builder;
  builder.config(R"({"model_type": "llama"})");
  builder.add("model.layers.0.mlp.up_proj.weight", {40, 300}, kvant::test::wave(12000, 3));
  std::vector<float> tiny = kvant::test::wave(64, 4);
  for (float& value : tiny) value *= 1e-39f;
  builder.add("model.norm.weight", {64}, tiny);
  builder.add("model.layers.0.mlp.down_proj.weight", {8, 8}, tiny);
  const std::string model = builder.write();
  const TempFolder folder;
  const auto run = [&](const std::string& name) {
    for (const char* scheme : {"llm-int8", "int8-group", "fp16", "bf16"}) {
      quantize_checkpoint(model, folder.path() / (name + scheme),
                          {.scheme = *kvant::io::weight_scheme_from_name(scheme)});
    }
    for (const char* scheme : {"llm-int8", "int8-group"}) {
      dequantize_checkpoint(folder.path() / (name + scheme),
                            folder.path() / (name + scheme + "-back"), {.dtype = DType::float32});
    }
  };
  const unsigned saved = _mm_getcsr();
  run("plain-");
  for (const unsigned mode : {0x2000u, 0x4000u, 0x6000u, 0x8040u}) {  // down, up, zero, flushed
    const std::string name = "m" + std::to_string(mode) + "-";
    _mm_setcsr(saved | mode);
    run(name);
    _mm_setcsr(saved);
    for (const char* scheme :
         {"llm-int8", "int8-group", "fp16", "bf16", "llm-int8-back", "int8-group-back"}) {
      INFO(name << scheme);
      CHECK(kvant::test::read_bytes(folder.path() / (name + scheme) / "model.safetensors") ==
            kvant::test::read_bytes(folder.path() / (std::string("plain-") + scheme) /
                                    "model.safetensors"));
    }
  }
}
#endif

TEST_CASE("files: moved-from objects can be asked and say that they are empty") {
  CheckpointBuilder builder;
  const std::string model = small_llama(builder).write();
  Checkpoint checkpoint(model);
  const Checkpoint taken = std::move(checkpoint);
  CHECK(taken.tensors().size() == 1);
  CHECK(checkpoint.tensors().empty());  // NOLINT: that is the question
  CHECK(checkpoint.find("x") == nullptr);
  CHECK(code_of([&] { (void)checkpoint.tensor("x"); }) == ErrorCode::invalid_argument);
  kvant::io::TensorFile file = kvant::io::open_tensor_file(model + "/model.safetensors");
  const kvant::io::TensorFile other = std::move(file);
  CHECK(other.tensors().size() == 1);
  CHECK(file.tensors().size() == 1);  // NOLINT: copies share the file, and moving is copying
  const TempFolder folder;
  kvant::io::SafeTensorsStream stream(folder.path() / "a", {{"t", DType::float32, {1}}});
  kvant::io::SafeTensorsStream moved = std::move(stream);
  CHECK(code_of([&] { stream.write("t", 0, {}); }) == ErrorCode::invalid_argument);  // NOLINT
  CHECK(code_of([&] { stream.commit(); }) == ErrorCode::invalid_argument);
  moved.write("t", 0, std::vector<std::byte>(4));
  moved.commit();
}

TEST_CASE("user models: what looks odd is said, and what is not understood stays in float") {
  const auto odd = [](const std::string& name) {
    return warning(plan(R"({"model_type": "llama"})", {{name, {4, 8}}}), WarningKind::odd_names);
  };
  CHECK(has(odd("model.layers.0.mlp.up_proj.lora_A.weight"), "merge"));
  CHECK(has(odd("model.layers.0.mlp.up_proj.base_layer.weight"), "adapter"));
  CHECK(has(odd("_orig_mod.model.layers.0.mlp.up_proj.weight"), "compiled"));
  CHECK(odd("model.layers.0.mlp.up_proj.weight").empty());
  // [in, out] by its bias: known of GPT-2, a guess elsewhere.
  for (const char* type : {"gpt2", "mygpt"}) {
    const auto summary =
        plan(std::string(R"({"model_type": ")") + type + "\"}",
             {{"h.0.attn.c_attn.weight", {8, 24}}, {"h.0.attn.c_attn.bias", {24}}});
    CHECK(quantized_layers(summary).size() == (std::string(type) == "gpt2" ? 1 : 0));
  }
  std::string message;
  CheckpointBuilder marked;
  small_llama(marked, "\xEF\xBB\xBF{}");
  CHECK(code_of([&] { quantize_checkpoint(marked.write(), "unused"); }, &message) ==
        ErrorCode::invalid_file);
  CHECK(has(message, "byte-order mark"));
}
