// config.json of every family: what is read, and what is refused instead of ignored.

#include <nlohmann/json.hpp>
#include <string>

#include "kvant/error.hpp"
#include "kvant/models/config.hpp"
#include "support/catch.hpp"
#include "support/error_code.hpp"

namespace {

using kvant::ErrorCode;
using kvant::models::Config;
using kvant::models::parse_config;
using kvant::test::code_of;
using nlohmann::json;

Config parsed(json config) {
  return parse_config(config.dump(), "config.json");
}

ErrorCode code(const char* type, json more) {
  more["model_type"] = type;
  return code_of([&] { (void)parsed(more); });
}

}  // namespace

TEST_CASE("config: an unknown family is refused by name, with the list") {
  CHECK(code("gpt_oss", {}) == ErrorCode::unsupported);
  try {
    (void)parsed({{"model_type", "gpt_oss"}});
  } catch (const kvant::Error& error) {
    const std::string text = error.what();
    CHECK(text.find("\"gpt_oss\"") != std::string::npos);
    for (const auto family : kvant::models::families()) {
      INFO(family);
      CHECK(text.find(family) != std::string::npos);
    }
  }
}

TEST_CASE("config: every family has defaults of its own") {
  for (const auto family : kvant::models::families()) {
    INFO(family);
    const Config config = parsed({{"model_type", family}});
    CHECK(config.model_type == family);
    CHECK(config.n_head % config.n_kv_head == 0);
    CHECK(config.head_dim > 0);
    CHECK(config.attention_scale > 0);
  }
  CHECK(parsed({{"model_type", "llama"}}).n_inner == 11008);
  CHECK(parsed({{"model_type", "mistral"}}).window(31) == 4096);
  CHECK(parsed({{"model_type", "gemma2"}}).window(0) == 4096);
  CHECK(parsed({{"model_type", "gemma2"}}).window(1) == 0);
  CHECK(parsed({{"model_type", "gpt_neox"}}).rotary.dims == 24);
  CHECK(parsed({{"model_type", "falcon"}}).n_kv_head == 1);
}

TEST_CASE("config: rotary positions as transformers 4 and 5 write them") {
  const json old = {{"model_type", "llama"},
                    {"rope_theta", 5e5},
                    {"rope_scaling",
                     {{"type", "llama3"},
                      {"factor", 8.0},
                      {"low_freq_factor", 1.0},
                      {"high_freq_factor", 4.0},
                      {"original_max_position_embeddings", 8192}}}};
  const Config config = parsed(old);
  CHECK(config.rotary.theta == 5e5f);
  CHECK(config.rotary.scaling == kvant::models::RotaryScaling::llama3);
  CHECK(config.rotary.factor == 8.0f);
  CHECK(config.rotary.original_length == 8192);
  CHECK(parsed({{"model_type", "gpt_neox"}, {"rotary_pct", 1.0}, {"rotary_emb_base", 7.0}})
            .rotary.dims == 96);
  const auto rope = [](json parameters) {
    return code("llama", {{"rope_parameters", std::move(parameters)}});
  };
  CHECK(rope({{"rope_type", "default"}}) == ErrorCode::ok);
  CHECK(rope({{"rope_type", "longrope"}, {"factor", 2.0}}) == ErrorCode::unsupported);
  CHECK(rope({{"rope_type", "mrope"}}) == ErrorCode::unsupported);
  CHECK(rope({{"rope_type", 3}}) == ErrorCode::invalid_file);
  CHECK(rope({{"rope_type", "linear"}}) == ErrorCode::invalid_file);  // no factor
  CHECK(rope({{"rope_type", "linear"}, {"factor", 0}}) == ErrorCode::invalid_file);
  CHECK(rope({{"rope_type", "linear"}, {"factor", 1e300}}) == ErrorCode::invalid_file);
  CHECK(rope({{"full_attention", {{"rope_type", "default"}}}}) == ErrorCode::unsupported);
  CHECK(rope({{"partial_rotary_factor", 0.5}}) == ErrorCode::unsupported);
  CHECK(code("phi3", {{"partial_rotary_factor", 0.5}}) == ErrorCode::ok);
  CHECK(code("phi3", {{"partial_rotary_factor", 1.5}}) == ErrorCode::invalid_file);
  CHECK(code("llama", {{"rope_parameters", {1, 2}}}) == ErrorCode::invalid_file);
  CHECK(code("llama", {{"head_dim", 7}}) == ErrorCode::invalid_file);  // odd
}

TEST_CASE("config: what would change the results and is not built is refused") {
  CHECK(code("llama", {{"hidden_act", "gelu_10"}}) == ErrorCode::unsupported);
  CHECK(code("gpt2", {{"add_cross_attention", true}}) == ErrorCode::unsupported);
  CHECK(code("bloom", {{"apply_residual_connection_post_layernorm", true}}) ==
        ErrorCode::unsupported);
  CHECK(code("gemma2", {{"use_bidirectional_attention", true}}) == ErrorCode::unsupported);
  CHECK(code("opt", {{"layer_norm_elementwise_affine", false}}) == ErrorCode::unsupported);
  CHECK(code("bert", {{"is_decoder", true}}) == ErrorCode::unsupported);
  CHECK(code("bert", {{"position_embedding_type", "relative_key"}}) == ErrorCode::unsupported);
  CHECK(code("roberta", {{"pad_token_id", 512}}) == ErrorCode::invalid_file);
  CHECK(code("t5", {{"feed_forward_proj", "gated-gelu_10"}}) == ErrorCode::unsupported);
  CHECK(code("t5", {{"feed_forward_proj", "relu"}, {"dense_act_fn", "silu"}}) ==
        ErrorCode::unsupported);
  CHECK(code("t5", {{"feed_forward_proj", "relu"}, {"is_gated_act", true}}) ==
        ErrorCode::unsupported);
  CHECK(code("t5", {{"relative_attention_num_buckets", 30}}) == ErrorCode::invalid_file);
  CHECK(code("t5", {{"relative_attention_max_distance", 16}}) == ErrorCode::invalid_file);
  CHECK(code("t5", {{"relative_attention_max_distance", 65536}, {"num_heads", 4096}}) ==
        ErrorCode::invalid_file);
  CHECK(code("t5", {{"decoder_start_token_id", 32128}}) == ErrorCode::invalid_file);
  CHECK(code("qwen2", {{"num_hidden_layers", 1}, {"layer_types", {"chunked_attention"}}}) ==
        ErrorCode::unsupported);
  CHECK(code("qwen2", {{"num_hidden_layers", 2}, {"layer_types", {"full_attention"}}}) ==
        ErrorCode::invalid_file);
  CHECK(code("qwen2", {{"num_hidden_layers", 1}, {"layer_types", {"sliding_attention"}}}) ==
        ErrorCode::invalid_file);  // and no window
  CHECK(code("mistral", {{"layer_types", {"full_attention"}}}) == ErrorCode::unsupported);
  CHECK(code("llama", {{"quantization_config", {{"quant_method", "hqq"}}}}) ==
        ErrorCode::unsupported);
}

TEST_CASE("config: sizes beyond any model, or that do not fit each other, are errors") {
  CHECK(code("llama", {{"hidden_size", 1ull << 40}}) == ErrorCode::invalid_file);
  CHECK(code("llama", {{"num_attention_heads", 1 << 28}, {"head_dim", 1 << 28}}) ==
        ErrorCode::invalid_file);
  CHECK(code("llama", {{"num_attention_heads", 32}, {"num_key_value_heads", 5}}) ==
        ErrorCode::invalid_file);
  CHECK(code("llama", {{"hidden_size", 100}, {"num_attention_heads", 3}}) ==
        ErrorCode::invalid_file);
  CHECK(code("llama", {{"num_hidden_layers", 1 << 27}}) == ErrorCode::invalid_file);
  CHECK(code("mixtral", {{"num_experts_per_tok", 9}}) == ErrorCode::invalid_file);
  CHECK(code("mixtral", {{"num_local_experts", 1 << 27}}) == ErrorCode::invalid_file);
  CHECK(code("granite", {{"logits_scaling", 0}}) == ErrorCode::invalid_file);
  CHECK(code("gemma2", {{"query_pre_attn_scalar", -1}}) == ErrorCode::invalid_file);
  CHECK(code("llama", {{"eos_token_id", {1, "x"}}}) == ErrorCode::invalid_file);
  CHECK(code("llama", {{"eos_token_id", {1, 1ull << 60}}}) == ErrorCode::invalid_file);
}

TEST_CASE("config: end tokens are one id, a list, or none") {
  const auto ends = [](json value) {
    return parsed({{"model_type", "llama"}, {"eos_token_id", std::move(value)}}).eos_token_ids;
  };
  CHECK(ends(7) == std::vector<std::int64_t>{7});
  CHECK(ends({7, 9}) == std::vector<std::int64_t>{7, 9});
  CHECK(ends(nullptr).empty());
  CHECK(ends(-1).empty());
  CHECK(parsed({{"model_type", "llama"}}).eos_token_ids == std::vector<std::int64_t>{2});
}

TEST_CASE("config: a text begins with bos; where there is none, it is said what is missing") {
  CHECK(parsed({{"model_type", "gpt_bigcode"}, {"vocab_size", 99}, {"bos_token_id", 98}}).bos() ==
        98);
  for (const json& missing : {json({{"vocab_size", 99}}),  // the family's default is not in there
                              json({{"vocab_size", 99}, {"bos_token_id", nullptr}}),
                              json({{"vocab_size", 99}, {"bos_token_id", 99}})}) {
    json config = missing;
    config["model_type"] = "gpt_bigcode";
    const std::string message =
        kvant::test::message_of([&] { (void)parsed(config).bos(); }, ErrorCode::invalid_file);
    INFO(message);
    CHECK(message.find("bos_token_id") != std::string::npos);
    CHECK(message.find("0 to 98") != std::string::npos);
  }
}
