// A GGUF file's metadata as config.json.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <string>

#include "models/gguf/gguf_model.hpp"
#include "models/gguf/metadata.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

/// End tokens: of a text, of a turn, of a message.
void copy_special_tokens(const Metadata& metadata, json& result) {
  metadata.copy_integer(result, "bos_token_id", "tokenizer.ggml.bos_token_id");
  json ends = json::array();
  for (const char* name : {"eos", "eot", "eom"}) {
    json one;
    metadata.copy_integer(one, "id", std::string("tokenizer.ggml.") + name + "_token_id");
    if (one.is_object() && std::find(ends.begin(), ends.end(), one["id"]) == ends.end()) {
      ends.push_back(one["id"]);
    }
  }
  if (!ends.empty()) result["eos_token_id"] = ends.size() == 1 ? ends[0] : ends;
}

/// No more blocks than the file has tensors: a name is made for each part of each.
void require_blocks(const Metadata& metadata, const char* name, std::int64_t blocks) {
  const std::size_t tensors = metadata.file().tensors().size();
  if (blocks >= 0 && static_cast<std::uint64_t>(blocks) <= tensors) return;
  metadata.fail(ErrorCode::invalid_file, metadata.key(name) + " is " + std::to_string(blocks) +
                                             ", the file has " + std::to_string(tensors) +
                                             " tensors");
}

/// Sizes by the names that most families have.
json sizes(const Metadata& metadata, std::uint64_t vocabulary) {
  json result = {
      {"vocab_size", vocabulary},
      {"hidden_size", metadata.integer("embedding_length")},
      {"num_hidden_layers", metadata.integer("block_count")},
      {"num_attention_heads", metadata.integer("attention.head_count")},
      {"tie_word_embeddings", !metadata.file().contains("output.weight")},
  };
  require_blocks(metadata, "block_count", result["num_hidden_layers"].get<std::int64_t>());
  metadata.copy_integer(result, "max_position_embeddings", metadata.key("context_length"));
  return result;
}

/// @return elements of a head; at least 1
std::int64_t head_size(const Metadata& metadata) {
  const std::int64_t width = metadata.integer("embedding_length");
  const std::int64_t heads = metadata.integer("attention.head_count");
  if (width < 1 || heads < 1) {
    metadata.fail(ErrorCode::invalid_file, "embedding_length " + std::to_string(width) +
                                               " and attention.head_count " +
                                               std::to_string(heads) + " are no sizes");
  }
  const std::int64_t size = metadata.integer("attention.key_length", width / heads);
  if (size < 1 || metadata.integer("attention.value_length", size) != size) {
    metadata.fail(ErrorCode::unsupported,
                  "attention.key_length " + std::to_string(size) + " and value_length " +
                      std::to_string(metadata.integer("attention.value_length", size)) +
                      ": heads of two sizes, or of none");
  }
  return size;
}

void rename(json& result, const char* from, const char* to) {
  const auto it = result.find(from);
  if (it == result.end()) return;
  json value = std::move(*it);
  result.erase(it);
  result[to] = std::move(value);
}

/// Llama and what is like it: RMS norms or not, rotary positions, heads that share keys.
void describe_llama_like(const Metadata& metadata, json& result) {
  const io::Gguf& file = metadata.file();
  const bool layer_norm = metadata.is("starcoder2");
  result["intermediate_size"] = metadata.integer("feed_forward_length");
  result["num_key_value_heads"] =
      metadata.integer("attention.head_count_kv", metadata.integer("attention.head_count"));
  result["rope_parameters"] = gguf_rotary(metadata, head_size(metadata));
  if (metadata.has("attention.key_length")) result["head_dim"] = head_size(metadata);
  metadata.copy_number(result, layer_norm ? "norm_epsilon" : "rms_norm_eps",
                       metadata.key(layer_norm ? "attention.layer_norm_epsilon"
                                               : "attention.layer_norm_rms_epsilon"));
  if (metadata.is("llama") || metadata.is("granite")) {
    result["attention_bias"] = file.contains("blk.0.attn_q.bias");
    result["mlp_bias"] = file.contains("blk.0.ffn_up.bias");
  } else if (metadata.is("qwen3") || metadata.is("olmo2") || metadata.is("gemma2")) {
    result["attention_bias"] = file.contains("blk.0.attn_q.bias");
  } else if (layer_norm) {
    result["use_bias"] = file.contains("blk.0.attn_q.bias");
  }
  const bool slides = metadata.has("attention.sliding_window");
  if (metadata.is("phi3") || metadata.is("gemma2") || layer_norm || metadata.is("llama")) {
    metadata.copy_integer(result, "sliding_window", metadata.key("attention.sliding_window"));
  } else {
    metadata.require_absent({"attention.sliding_window"});
  }
  if (!metadata.is("llama")) return;
  if (metadata.integer("expert_count", 0) > 0) {
    result["model_type"] = "mixtral";
    result["num_local_experts"] = metadata.integer("expert_count");
    result["num_experts_per_tok"] = metadata.integer("expert_used_count");
  } else if (slides) {
    result["model_type"] = "mistral";
  }
}

void describe_gemma2(const Metadata& metadata, json& result) {
  for (const auto& [key, member] :
       {std::pair("attn_logit_softcapping", "attn_logit_softcapping"),
        std::pair("final_logit_softcapping", "final_logit_softcapping")}) {
    result[member] = nullptr;  // none, where the file says nothing
    metadata.copy_number(result, member, metadata.key(key));
  }
  // llama.cpp knows the largest model by its layers.
  result["query_pre_attn_scalar"] =
      metadata.integer("block_count") == 46
          ? metadata.integer("embedding_length") / metadata.integer("attention.head_count")
          : head_size(metadata);
  if (!result.contains("sliding_window")) result["sliding_window"] = 4096;
}

void describe_granite(const Metadata& metadata, json& result) {
  result["attention_multiplier"] = 1.0 / std::sqrt(static_cast<double>(head_size(metadata)));
  metadata.copy_number(result, "attention_multiplier", metadata.key("attention.scale"));
  metadata.copy_number(result, "embedding_multiplier", metadata.key("embedding_scale"));
  metadata.copy_number(result, "residual_multiplier", metadata.key("residual_scale"));
  metadata.copy_number(result, "logits_scaling", metadata.key("logit_scale"));
}

/// GPT-2 and GPTBigCode.
void describe_gpt2_like(const Metadata& metadata, json& result) {
  for (const auto& [from, to] :
       {std::pair("hidden_size", "n_embd"), std::pair("num_hidden_layers", "n_layer"),
        std::pair("num_attention_heads", "n_head"),
        std::pair("max_position_embeddings", "n_positions")}) {
    rename(result, from, to);
  }
  result["n_inner"] = metadata.integer("feed_forward_length");
  metadata.copy_number(result, "layer_norm_epsilon", metadata.key("attention.layer_norm_epsilon"));
  if (metadata.is("starcoder")) {
    const std::int64_t kv_heads = metadata.integer("attention.head_count_kv", 1);
    if (kv_heads != 1) {
      metadata.fail(ErrorCode::unsupported, metadata.key("attention.head_count_kv") + " is " +
                                                std::to_string(kv_heads) + ", not 1");
    }
    result["multi_query"] = true;
  }
}

void describe_gpt_neox(const Metadata& metadata, json& result) {
  result["intermediate_size"] = metadata.integer("feed_forward_length");
  const auto parallel = metadata.file().boolean(metadata.key("use_parallel_residual"));
  result["use_parallel_residual"] = parallel.value_or(true);
  metadata.copy_number(result, "layer_norm_eps", metadata.key("attention.layer_norm_epsilon"));
  result["rope_parameters"] = gguf_rotary(metadata, head_size(metadata));
  if (!result["rope_parameters"].contains("partial_rotary_factor")) {
    result["rope_parameters"]["partial_rotary_factor"] = 1.0;  // not the family's default
  }
}

void describe_bloom(const Metadata& metadata, json& result) {
  rename(result, "num_hidden_layers", "n_layer");
  rename(result, "num_attention_heads", "n_head");
  rename(result, "max_position_embeddings", "seq_length");
  metadata.copy_number(result, "layer_norm_epsilon", metadata.key("attention.layer_norm_epsilon"));
}

void describe_falcon(const Metadata& metadata, json& result) {
  const std::int64_t heads = metadata.integer("attention.head_count");
  const std::int64_t kv_heads = metadata.integer("attention.head_count_kv", heads);
  const bool two_norms = metadata.file().contains("blk.0.attn_norm_2.weight");
  const bool new_form = two_norms || kv_heads > 1;
  result["ffn_hidden_size"] = metadata.integer("feed_forward_length");
  result["new_decoder_architecture"] = new_form;
  result["multi_query"] = kv_heads == 1;
  if (new_form) {
    result["num_kv_heads"] = kv_heads;
    result["num_ln_in_parallel_attn"] = two_norms ? 2 : 1;
  }
  result["parallel_attn"] = true;
  result["alibi"] = false;
  result["bias"] = false;
  metadata.copy_number(result, "layer_norm_epsilon", metadata.key("attention.layer_norm_epsilon"));
  result["rope_parameters"] = gguf_rotary(metadata, head_size(metadata));
}

/// An encoder and a decoder. Of a model with a head of its own, the head reads the decoder's output
/// as it is (T5 1.1, FLAN-T5); else it is the table of tokens, and reads it scaled (T5).
void describe_t5(const Metadata& metadata, json& result) {
  for (const auto& [from, to] :
       {std::pair("hidden_size", "d_model"), std::pair("num_hidden_layers", "num_layers"),
        std::pair("num_attention_heads", "num_heads"),
        std::pair("max_position_embeddings", "n_positions")}) {
    rename(result, from, to);
  }
  const std::int64_t heads = metadata.integer("attention.head_count");
  if (metadata.integer("attention.head_count_kv", heads) != heads) {
    metadata.fail(ErrorCode::unsupported, metadata.key("attention.head_count_kv") + " is not " +
                                              std::to_string(heads) + ", the number of all heads");
  }
  const std::int64_t blocks = metadata.integer("block_count");
  result["num_decoder_layers"] = metadata.integer("decoder_block_count", blocks);
  require_blocks(metadata, "decoder_block_count", result["num_decoder_layers"]);
  result["d_kv"] = head_size(metadata);
  result["d_ff"] = metadata.integer("feed_forward_length");
  result["relative_attention_num_buckets"] = metadata.integer("attention.relative_buckets_count");
  result["relative_attention_max_distance"] = Relative{}.max_distance;
  result["feed_forward_proj"] =
      metadata.file().contains("enc.blk.0.ffn_gate.weight") ? "gated-gelu" : "relu";
  metadata.copy_number(result, "layer_norm_epsilon",
                       metadata.key("attention.layer_norm_rms_epsilon"));
  metadata.copy_integer(result, "pad_token_id", "tokenizer.ggml.padding_token_id");
  if (result.value("pad_token_id", std::int64_t{0}) < 0) result.erase("pad_token_id");  // none
  metadata.copy_integer(result, "decoder_start_token_id", metadata.key("decoder_start_token_id"));
  result["scale_decoder_outputs"] = result["tie_word_embeddings"];
  result["is_encoder_decoder"] = true;
}

void describe_bert(const Metadata& metadata, json& result) {
  const io::GgufTensor* types = metadata.file().find_gguf("token_types.weight");
  if (types == nullptr || types->shape.size() != 2) {
    metadata.fail(ErrorCode::unsupported, "token_types.weight is missing or no matrix");
  }
  result["type_vocab_size"] = types->shape[0];
  result["intermediate_size"] = metadata.integer("feed_forward_length");
  result["hidden_act"] = "gelu";
  metadata.copy_number(result, "layer_norm_eps", metadata.key("attention.layer_norm_epsilon"));
  for (const char* member : {"bos_token_id", "eos_token_id"}) result.erase(member);
}

}  // namespace

json gguf_config(const io::Gguf& file) {
  const Metadata metadata(file);
  // What llama.cpp knows of other architectures, or of later forms of these.
  metadata.require_absent(
      {"attention.clamp_kqv", "attention.max_alibi_bias", "attention.kv_lora_rank",
       "attention.q_lora_rank", "attention.output_scale", "attention.value_scale",
       "attention.temperature_length", "attention.temperature_scale", "attention.key_length_swa",
       "attention.sliding_window_pattern", "attention.shared_kv_layers", "attention.rope_pattern",
       "rope.dimension_sections", "rope.freq_base_swa", "rope.scaling.yarn_log_multiplier",
       "router_logit_softcapping", "expert_shared_count", "leading_dense_block_count",
       "interleave_moe_layer_step"});
  const bool causal = !metadata.is("bert");
  if (file.boolean(metadata.key("attention.causal")).value_or(causal) != causal &&
      !metadata.is("t5")) {
    metadata.fail(ErrorCode::unsupported,
                  metadata.key("attention.causal") + " is " + (causal ? "false" : "true"));
  }
  if (!metadata.is("granite")) {
    metadata.require_absent(
        {"attention.scale", "logit_scale", "embedding_scale", "residual_scale"});
  }
  if (!metadata.is("gemma2")) {
    metadata.require_absent({"attn_logit_softcapping", "final_logit_softcapping"});
  }
  if (!metadata.is("llama")) metadata.require_absent({"expert_count"});
  const io::GgufTensor* tokens = file.find_gguf("token_embd.weight");
  if (tokens == nullptr || tokens->shape.size() != 2) {
    metadata.fail(ErrorCode::invalid_file, "token_embd.weight is missing or no matrix");
  }
  json result = sizes(metadata, tokens->shape[0]);
  const auto table = gguf_architectures();
  result["model_type"] = std::find_if(table.begin(), table.end(), [&](const auto& each) {
                           return metadata.is(each.name);
                         })->model_type;
  copy_special_tokens(metadata, result);
  if (metadata.is("gpt2") || metadata.is("starcoder")) {
    describe_gpt2_like(metadata, result);
  } else if (metadata.is("gptneox")) {
    describe_gpt_neox(metadata, result);
  } else if (metadata.is("bloom")) {
    describe_bloom(metadata, result);
  } else if (metadata.is("falcon")) {
    describe_falcon(metadata, result);
  } else if (metadata.is("t5")) {
    describe_t5(metadata, result);
  } else if (metadata.is("bert")) {
    describe_bert(metadata, result);
  } else {
    describe_llama_like(metadata, result);
    if (metadata.is("gemma2")) describe_gemma2(metadata, result);
    if (metadata.is("granite")) describe_granite(metadata, result);
  }
  return result;
}

}  // namespace kvant::models
