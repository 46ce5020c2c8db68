#include "models/load/families.hpp"

#include <array>
#include <cmath>
#include <string>

#include "models/load/encoders.hpp"
#include "models/load/family_parts.hpp"

namespace kvant::models {
namespace {

void gpt_bigcode(const ConfigReader& reader, Config& config) {
  gpt2_like(reader, config, "gelu_pytorch_tanh");
  config.qkv_by_head = true;
  config.texts_begin_with_bos = true;
  bool multi_query = true;
  reader.boolean(multi_query, "multi_query");
  if (multi_query) config.n_kv_head = 1;
}

void gpt2(const ConfigReader& reader, Config& config) {
  gpt2_like(reader, config, "gelu_new");
  reader.boolean(config.scale_by_layer, "scale_attn_by_inverse_layer_idx");
}

void llama(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {32000, 2048, 4096, 32, 32, 11008}, 0, 1e-6f);
  read_attention_bias(reader, config);
  reader.boolean(config.mlp_bias, "mlp_bias");
  config.rotary = read_rotary(reader, config);
}

void granite(const ConfigReader& reader, Config& config) {
  llama(reader, config);
  config.attention_scale = 1.0f;
  reader.positive(config.attention_scale, "attention_multiplier");
  reader.positive(config.embedding_multiplier, "embedding_multiplier");
  reader.positive(config.residual_multiplier, "residual_multiplier");
  reader.positive(config.logit_divisor, "logits_scaling");
}

void mistral(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {32000, 131072, 4096, 32, 32, 14336}, 8, 1e-6f);
  if (reader.has("layer_types")) reader.unsupported("layer_types, which mistral does not have");
  all_layers_slide(reader, config, 4096);
  config.rotary = read_rotary(reader, config);
}

void mixtral(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {32000, 131072, 4096, 32, 32, 14336}, 8, 1e-5f);
  all_layers_slide(reader, config, 0);
  config.rotary = read_rotary(reader, config, 1e6f);
  config.n_expert = 8;
  config.n_expert_used = 2;
  reader.integer(config.n_expert, 1, 65536, "num_local_experts");
  reader.integer(config.n_expert_used, 1, config.n_expert, "num_experts_per_tok");
}

void qwen(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {151936, 32768, 4096, 32, 32, 22016}, 32, 1e-6f);
  config.bos_token_id = -1;
  config.eos_token_ids = {};
  bool slides = false;
  reader.boolean(slides, "use_sliding_window");
  std::int64_t window = 4096;
  std::int64_t first = 28;
  reader.size(window, "sliding_window");
  reader.integer(first, 0, kSizeLimit, "max_window_layers");
  if (!slides || reader.is_null("sliding_window")) window = 0;
  some_layers_slide(
      reader, config, window, [](std::int64_t n, std::int64_t from) { return n >= from; }, first);
}

void qwen2(const ConfigReader& reader, Config& config) {
  qwen(reader, config);
  config.qkv_bias = true;
  config.rotary = read_rotary(reader, config);
}

void qwen3(const ConfigReader& reader, Config& config) {
  qwen(reader, config);
  if (!reader.has("head_dim")) config.head_dim = 128;
  read_attention_bias(reader, config);
  config.rotary = read_rotary(reader, config);
}

void phi3(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {32064, 4096, 3072, 32, 32, 8192}, 0, 1e-5f);
  config.fused_gate_up = true;
  all_layers_slide(reader, config, 0);
  config.eos_token_ids = {32000};
  config.rotary = read_rotary(reader, config, 10000.0f, true);
}

void olmo2(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {50304, 2048, 4096, 32, 32, 11008}, 0, 1e-5f);
  read_attention_bias(reader, config);
  config.qk_norm_per_head = false;
  config.bos_token_id = -1;
  config.eos_token_ids = {50279};
  config.rotary = read_rotary(reader, config);
}

void gemma2(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {256000, 8192, 2304, 26, 8, 9216}, 4, 1e-6f, "hidden_activation",
             "gelu_pytorch_tanh");
  if (!reader.has("head_dim")) config.head_dim = 256;
  read_attention_bias(reader, config);
  config.norm_offset = 1.0f;
  config.tie_word_embeddings = true;
  config.embedding_multiplier = std::sqrt(static_cast<float>(config.n_embd));
  float scalar = 256.0f;
  reader.positive(scalar, "query_pre_attn_scalar");
  config.attention_scale = 1.0f / std::sqrt(scalar);
  config.attention_softcap = reader.is_null("attn_logit_softcapping") ? 0.0f : 50.0f;
  config.logit_softcap = reader.is_null("final_logit_softcapping") ? 0.0f : 30.0f;
  reader.positive(config.attention_softcap, "attn_logit_softcapping");
  reader.positive(config.logit_softcap, "final_logit_softcapping");
  std::int64_t window = reader.is_null("sliding_window") ? 0 : 4096;
  reader.size(window, "sliding_window");
  some_layers_slide(reader, config, window,
                    [](std::int64_t n, std::int64_t) { return n % 2 == 0; });
  reader.require_false({"use_bidirectional_attention"});
  config.bos_token_id = 2;
  config.eos_token_ids = {1};
  config.rotary = read_rotary(reader, config);
}

void starcoder2(const ConfigReader& reader, Config& config) {
  llama_like(reader, config, {49152, 4096, 3072, 30, 24, 12288}, 2, 1e-5f, "hidden_act",
             "gelu_pytorch_tanh");
  config.norm = NormKind::layer;
  config.norm_bias = true;
  reader.number(config.norm_epsilon, "norm_epsilon");
  config.gated_mlp = false;
  bool bias = true;
  reader.boolean(bias, "use_bias");
  config.qkv_bias = config.attention_output_bias = config.mlp_bias = bias;
  config.tie_word_embeddings = true;
  all_layers_slide(reader, config, 0);
  config.bos_token_id = 50256;
  config.eos_token_ids = {50256};
  config.rotary = read_rotary(reader, config);
}

void gpt_neox(const ConfigReader& reader, Config& config) {
  read_sizes(reader, config, {50432, 2048, 6144, 44, 64, 24576});
  reader.size(config.n_inner, "intermediate_size");
  divide_heads(reader, config);
  reader.number(config.norm_epsilon, "layer_norm_eps");
  read_activation(reader, config, "hidden_act", "gelu");
  config.qkv_by_head = true;
  read_attention_bias(reader, config);
  bool parallel = true;
  reader.boolean(parallel, "use_parallel_residual");
  config.residual = parallel ? Residual::parallel : Residual::serial;
  config.tie_word_embeddings = false;
  config.positions = Positions::rotary;
  config.bos_token_id = 0;
  config.eos_token_ids = {2};
  config.rotary = read_rotary(reader, config, 10000.0f, true, 0.25f);
}

void bloom(const ConfigReader& reader, Config& config) {
  read_sizes(reader, config, {250880, 2048, 64, 2, 8, 0}, true);
  reader.size(config.n_positions, "seq_length");
  config.n_inner = 4 * config.n_embd;
  divide_heads(reader, config);
  reader.number(config.norm_epsilon, "layer_norm_epsilon");
  reader.require_false({"apply_residual_connection_post_layernorm"});
  config.qkv_by_head = true;
  config.positions = Positions::alibi;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
}

void falcon(const ConfigReader& reader, Config& config) {
  read_sizes(reader, config, {65024, 2048, 4544, 32, 71, 0});
  config.n_inner = 4 * config.n_embd;
  reader.size(config.n_inner, "ffn_hidden_size");
  divide_heads(reader, config);
  reader.number(config.norm_epsilon, "layer_norm_epsilon");
  read_activation(reader, config, "activation", "gelu");
  bool new_form = false;
  bool multi_query = true;
  bool parallel = true;
  bool alibi = false;
  bool bias = false;
  reader.boolean(new_form, "new_decoder_architecture");
  reader.boolean(multi_query, "multi_query");
  reader.boolean(parallel, "parallel_attn");
  reader.boolean(alibi, "alibi");
  reader.boolean(bias, "bias");
  config.qkv_by_head = true;
  config.qkv_bias = config.attention_output_bias = config.mlp_bias = bias;
  if (new_form) {
    reader.size(config.n_kv_head, "num_kv_heads");
  } else if (multi_query) {
    config.n_kv_head = 1;
  }
  std::int64_t norms = new_form ? 2 : 1;
  reader.integer(norms, 1, 2, "num_ln_in_parallel_attn");
  if (new_form || parallel) {
    config.residual = Residual::parallel;
    config.names.mlp_norm = {};
  }
  if (new_form && norms == 2) {
    config.names.attention_norm = "ln_attn";
    config.names.mlp_norm = "ln_mlp";
  }
  config.bos_token_id = 11;
  config.eos_token_ids = {11};
  config.positions = alibi ? Positions::alibi : Positions::rotary;
  config.alibi_bf16 = alibi;
  if (!alibi) config.rotary = read_rotary(reader, config);
}

void opt(const ConfigReader& reader, Config& config) {
  read_sizes(reader, config, {50272, 2048, 768, 12, 12, 3072});
  reader.size(config.n_inner, "ffn_dim");
  divide_heads(reader, config);
  read_activation(reader, config, "activation_function", "relu");
  config.position_offset = 2;
  bool before = true;
  bool no_final_norm = false;
  bool bias = true;
  bool affine = true;
  reader.boolean(before, "do_layer_norm_before");
  reader.boolean(no_final_norm, "_remove_final_layer_norm");
  reader.boolean(bias, "enable_bias");
  reader.boolean(affine, "layer_norm_elementwise_affine");
  if (!affine) reader.unsupported("layer_norm_elementwise_affine is false: not supported");
  config.qkv_bias = config.attention_output_bias = config.mlp_bias = bias;
  if (!before) config.residual = Residual::post_norm;
  if (!before || no_final_norm) config.names.final_norm = {};
  reader.size(config.embedding_size, "word_embed_proj_dim");
  if (config.embedding_size == config.n_embd) {
    config.names.project_in = config.names.project_out = {};
  }
  config.bos_token_id = 2;
  config.eos_token_ids = {2};
}

constexpr PartNames kGpt2Names{.attention_norm = "ln_1", .mlp_norm = "ln_2", .final_norm = "ln_f"};
constexpr PartNames kLlamaNames{.attention_norm = "input_layernorm",
                                .mlp_norm = "post_attention_layernorm",
                                .final_norm = "norm"};
constexpr PartNames kBloomNames{.attention_norm = "input_layernorm",
                                .mlp_norm = "post_attention_layernorm",
                                .embedding_norm = "word_embeddings_layernorm",
                                .final_norm = "ln_f"};

/// RoBERTa's, but for the names of the head.
constexpr PartNames kBertNames{.attention_norm = "attention.output.LayerNorm",
                               .mlp_norm = "output.LayerNorm",
                               .token_types = "embeddings.token_type_embeddings",
                               .embedding_norm = "embeddings.LayerNorm",
                               .head_dense = "cls.predictions.transform.dense",
                               .head_norm = "cls.predictions.transform.LayerNorm",
                               .head_bias = "cls.predictions.bias"};

constexpr PartNames roberta_names() {
  PartNames names = kBertNames;
  names.head_dense = "lm_head.dense";
  names.head_norm = "lm_head.layer_norm";
  names.head_bias = "lm_head.bias";
  return names;
}

constexpr std::array kTable{
    Family{"bert", kBertNames, bert},
    Family{"bloom", kBloomNames, bloom},
    Family{"falcon",
           {.attention_norm = "input_layernorm",
            .mlp_norm = "post_attention_layernorm",
            .final_norm = "ln_f"},
           falcon},
    Family{"gemma2",
           {.attention_norm = "input_layernorm",
            .attention_output_norm = "post_attention_layernorm",
            .mlp_norm = "pre_feedforward_layernorm",
            .mlp_output_norm = "post_feedforward_layernorm",
            .final_norm = "norm"},
           gemma2},
    Family{"gpt2", kGpt2Names, gpt2},
    Family{"gpt_bigcode", kGpt2Names, gpt_bigcode},
    Family{"gpt_neox",
           {.attention_norm = "input_layernorm",
            .mlp_norm = "post_attention_layernorm",
            .final_norm = "final_layer_norm"},
           gpt_neox},
    Family{"granite", kLlamaNames, granite},
    Family{"llama", kLlamaNames, llama},
    Family{"mistral", kLlamaNames, mistral},
    Family{"mixtral",
           {.attention_norm = "input_layernorm",
            .mlp_norm = "post_attention_layernorm",
            .router = "block_sparse_moe.gate",
            .experts = "block_sparse_moe.experts",
            .final_norm = "norm"},
           mixtral},
    Family{"olmo2",
           {.attention_output_norm = "post_attention_layernorm",
            .mlp_output_norm = "post_feedforward_layernorm",
            .q_norm = "self_attn.q_norm",
            .k_norm = "self_attn.k_norm",
            .final_norm = "norm"},
           olmo2},
    Family{"opt",
           {.attention_norm = "self_attn_layer_norm",
            .mlp_norm = "final_layer_norm",
            .final_norm = "decoder.final_layer_norm",
            .project_in = "decoder.project_in",
            .project_out = "decoder.project_out"},
           opt},
    Family{"phi3", kLlamaNames, phi3},
    Family{"qwen2", kLlamaNames, qwen2},
    Family{"qwen3",
           {.attention_norm = "input_layernorm",
            .mlp_norm = "post_attention_layernorm",
            .q_norm = "self_attn.q_norm",
            .k_norm = "self_attn.k_norm",
            .final_norm = "norm"},
           qwen3},
    Family{"roberta", roberta_names(), roberta},
    Family{"starcoder2", kLlamaNames, starcoder2},
    Family{"t5",
           {.attention_norm = "layer.0.layer_norm",
            .mlp_norm = "layer.2.layer_norm",
            .cross_norm = "layer.1.layer_norm",
            .position_bias = "layer.0.SelfAttention.relative_attention_bias",
            .final_norm = "decoder.final_layer_norm"},
           t5,
           {.attention_norm = "layer.0.layer_norm",
            .mlp_norm = "layer.1.layer_norm",
            .position_bias = "layer.0.SelfAttention.relative_attention_bias",
            .final_norm = "encoder.final_layer_norm"}},
};

}  // namespace

std::span<const Family> family_table() noexcept {
  return kTable;
}

std::vector<std::string_view> families() {
  std::vector<std::string_view> result;
  for (const Family& family : kTable) result.push_back(family.model_type);
  return result;
}

}  // namespace kvant::models
