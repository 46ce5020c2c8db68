#include "kvant/io/architecture.hpp"

#include <algorithm>
#include <array>

#include "io/checkpoint/known_models.hpp"

namespace kvant::io {
namespace {

constexpr BlockLinears kGpt2Linears{.qkv = "attn.c_attn",
                                    .attention_output = "attn.c_proj",
                                    .up = "mlp.c_fc",
                                    .down = "mlp.c_proj"};
constexpr BlockLinears kLlamaLinears{.q = "self_attn.q_proj",
                                     .k = "self_attn.k_proj",
                                     .v = "self_attn.v_proj",
                                     .attention_output = "self_attn.o_proj",
                                     .gate = "mlp.gate_proj",
                                     .up = "mlp.up_proj",
                                     .down = "mlp.down_proj"};

constexpr BlockLinears kBertLinears{.q = "attention.self.query",
                                    .k = "attention.self.key",
                                    .v = "attention.self.value",
                                    .attention_output = "attention.output.dense",
                                    .up = "intermediate.dense",
                                    .down = "output.dense"};

constexpr Architecture gpt2_like(std::string_view model_type, bool transposed) {
  return {.model_type = model_type,
          .prefix = "transformer.",
          .blocks = "h",
          .linears = kGpt2Linears,
          .other_linears = "q_attn",  // of cross attention
          .head = "lm_head",
          .tokens = "wte",
          .positions = "wpe",
          .transposed = transposed};
}

constexpr Architecture llama_like(std::string_view model_type) {
  return {.model_type = model_type,
          .prefix = "model.",
          .blocks = "layers",
          .linears = kLlamaLinears,
          .head = "lm_head",
          .tokens = "embed_tokens"};
}

constexpr std::array kTable{
    gpt2_like("gpt_bigcode", false),
    gpt2_like("gpt2", true),
    llama_like("llama"),
    llama_like("mistral"),
    llama_like("qwen2"),
    llama_like("qwen3"),
    llama_like("gemma2"),
    llama_like("olmo2"),
    llama_like("granite"),
    Architecture{.model_type = "phi3",
                 .prefix = "model.",
                 .blocks = "layers",
                 .linears = {.qkv = "self_attn.qkv_proj",
                             .attention_output = "self_attn.o_proj",
                             .up = "mlp.gate_up_proj",
                             .down = "mlp.down_proj"},
                 .head = "lm_head",
                 .tokens = "embed_tokens"},
    Architecture{.model_type = "starcoder2",
                 .prefix = "model.",
                 .blocks = "layers",
                 .linears = {.q = "self_attn.q_proj",
                             .k = "self_attn.k_proj",
                             .v = "self_attn.v_proj",
                             .attention_output = "self_attn.o_proj",
                             .up = "mlp.c_fc",
                             .down = "mlp.c_proj"},
                 .head = "lm_head",
                 .tokens = "embed_tokens"},
    Architecture{.model_type = "mixtral",
                 .prefix = "model.",
                 .blocks = "layers",
                 .linears = {.q = "self_attn.q_proj",
                             .k = "self_attn.k_proj",
                             .v = "self_attn.v_proj",
                             .attention_output = "self_attn.o_proj",
                             .gate = "w1",
                             .up = "w3",
                             .down = "w2"},
                 .head = "lm_head",
                 .tokens = "embed_tokens"},
    Architecture{.model_type = "falcon",
                 .prefix = "transformer.",
                 .blocks = "h",
                 .linears = {.qkv = "self_attention.query_key_value",
                             .attention_output = "self_attention.dense",
                             .up = "mlp.dense_h_to_4h",
                             .down = "mlp.dense_4h_to_h"},
                 .head = "lm_head",
                 .tokens = "word_embeddings"},
    Architecture{.model_type = "opt",
                 .prefix = "model.",
                 .blocks = "decoder.layers",
                 .linears = {.q = "self_attn.q_proj",
                             .k = "self_attn.k_proj",
                             .v = "self_attn.v_proj",
                             .attention_output = "self_attn.out_proj",
                             .up = "fc1",
                             .down = "fc2"},
                 .other_linears = "project_in project_out",
                 .head = "lm_head",
                 .tokens = "decoder.embed_tokens",
                 .positions = "decoder.embed_positions"},
    Architecture{.model_type = "bloom",
                 .prefix = "transformer.",
                 .blocks = "h",
                 .linears = {.qkv = "self_attention.query_key_value",
                             .attention_output = "self_attention.dense",
                             .up = "mlp.dense_h_to_4h",
                             .down = "mlp.dense_4h_to_h"},
                 .head = "lm_head",
                 .tokens = "word_embeddings"},
    Architecture{.model_type = "gpt_neox",
                 .prefix = "gpt_neox.",
                 .blocks = "layers",
                 .linears = {.qkv = "attention.query_key_value",
                             .attention_output = "attention.dense",
                             .up = "mlp.dense_h_to_4h",
                             .down = "mlp.dense_4h_to_h"},
                 .head = "embed_out",
                 .tokens = "embed_in"},
    Architecture{.model_type = "bert",
                 .prefix = "bert.",
                 .blocks = "encoder.layer",
                 .linears = kBertLinears,
                 .head = "cls.predictions.decoder",
                 .tokens = "embeddings.word_embeddings",
                 .positions = "embeddings.position_embeddings",
                 .other_embeddings = "token_type_embeddings"},
    Architecture{.model_type = "roberta",
                 .prefix = "roberta.",
                 .blocks = "encoder.layer",
                 .linears = kBertLinears,
                 .head = "lm_head.decoder",
                 .tokens = "embeddings.word_embeddings",
                 .positions = "embeddings.position_embeddings",
                 .other_embeddings = "token_type_embeddings"},
    Architecture{.model_type = "t5",
                 .prefix = "",
                 .blocks = "",
                 .linears = {.q = "layer.0.SelfAttention.q",
                             .k = "layer.0.SelfAttention.k",
                             .v = "layer.0.SelfAttention.v",
                             .attention_output = "layer.0.SelfAttention.o",
                             .gate = "layer.2.DenseReluDense.wi_0",
                             .up = "layer.2.DenseReluDense.wi_1",
                             .plain_up = "layer.2.DenseReluDense.wi",
                             .down = "layer.2.DenseReluDense.wo",
                             .cross_q = "layer.1.EncDecAttention.q",
                             .cross_k = "layer.1.EncDecAttention.k",
                             .cross_v = "layer.1.EncDecAttention.v",
                             .cross_output = "layer.1.EncDecAttention.o"},
                 .decoder_blocks = "decoder.block",
                 .encoder_blocks = "encoder.block",
                 .encoder_linears = {.q = "layer.0.SelfAttention.q",
                                     .k = "layer.0.SelfAttention.k",
                                     .v = "layer.0.SelfAttention.v",
                                     .attention_output = "layer.0.SelfAttention.o",
                                     .gate = "layer.1.DenseReluDense.wi_0",
                                     .up = "layer.1.DenseReluDense.wi_1",
                                     .plain_up = "layer.1.DenseReluDense.wi",
                                     .down = "layer.1.DenseReluDense.wo"},
                 .head = "lm_head",
                 .float_linears = "wo",
                 .tokens = "shared",
                 .other_embeddings = "embed_tokens relative_attention_bias"},
};

}  // namespace

std::span<const Architecture> architectures() noexcept {
  return kTable;
}

const Architecture* find_architecture(std::string_view model_type) noexcept {
  const auto* row = std::find_if(kTable.begin(), kTable.end(), [&](const Architecture& each) {
    return each.model_type == model_type;
  });
  return row == kTable.end() ? nullptr : row;
}

bool Architecture::keeps_float(std::string_view layer) const noexcept {
  return has_ending(float_linears, layer);
}

std::string Architecture::linear_name(std::string_view linear, long long block,
                                      bool with_prefix) const {
  std::string name(with_prefix ? prefix : std::string_view());
  name += blocks;
  name += "." + std::to_string(block) + ".";
  return name.append(linear);
}

}  // namespace kvant::io
