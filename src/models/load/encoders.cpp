#include "models/load/encoders.hpp"

#include <cmath>
#include <string>

#include "models/load/family_parts.hpp"

namespace kvant::models {
namespace {

/// What BERT and its relatives share.
void bert_like(const ConfigReader& reader, Config& config, const Sizes& sizes) {
  config.kind = ModelKind::encoder;
  read_sizes(reader, config, sizes);
  reader.size(config.n_inner, "intermediate_size");
  divide_heads(reader, config);
  config.norm_epsilon = 1e-12f;
  reader.number(config.norm_epsilon, "layer_norm_eps");
  read_activation(reader, config, "hidden_act", "gelu");
  config.residual = Residual::post_norm;
  config.n_token_type = 2;
  reader.integer(config.n_token_type, 1, 65536, "type_vocab_size");
  config.bos_token_id = -1;
  config.eos_token_ids = {};
  reader.require_false({"is_decoder", "add_cross_attention"});
  const std::string positions = reader.text("position_embedding_type", "absolute");
  if (positions != "absolute") {
    reader.unsupported("position_embedding_type \"" + positions.substr(0, 80) +
                       "\" is not absolute, the only one that is built");
  }
}

/// "relu", "gated-gelu", "gated-silu": transformers takes gelu's tanh form in the second.
void read_feed_forward(const ConfigReader& reader, Config& config, const char* fallback) {
  const std::string name = reader.text("feed_forward_proj", fallback);
  constexpr std::string_view kGated = "gated-";
  config.gated_mlp = name.starts_with(kGated);
  const std::string function = name == "gated-gelu" ? "gelu_new"
                               : config.gated_mlp   ? name.substr(kGated.size())
                                                    : name;
  const nlohmann::json json = {{"feed_forward_proj", function}};
  const std::string file = "feed_forward_proj of config.json";
  read_activation(ConfigReader(json, file), config, "feed_forward_proj", fallback);
  // transformers writes what it made of that, and takes it from there again.
  const std::string made = reader.text("dense_act_fn", function.c_str());
  bool gated = config.gated_mlp;
  reader.boolean(gated, "is_gated_act");
  if (made != function || gated != config.gated_mlp) {
    reader.unsupported("dense_act_fn \"" + made.substr(0, 40) + "\" and is_gated_act " +
                       (gated ? "true" : "false") + " are not what feed_forward_proj \"" +
                       name.substr(0, 40) + "\" says");
  }
}

}  // namespace

void bert(const ConfigReader& reader, Config& config) {
  bert_like(reader, config, {30522, 512, 768, 12, 12, 3072});
}

void roberta(const ConfigReader& reader, Config& config) {
  bert_like(reader, config, {50265, 512, 768, 12, 12, 3072});
  config.bos_token_id = 0;
  config.eos_token_ids = {2};
  // Positions are counted from the padding's id on, which takes the first rows of the table.
  std::int64_t padding = 1;
  reader.integer(padding, 0, kSizeLimit, "pad_token_id");
  config.position_offset = padding + 1;
  config.n_positions -= config.position_offset;
  if (config.n_positions < 1) {
    reader.invalid("max_position_embeddings leaves no row behind pad_token_id " +
                   std::to_string(padding));
  }
}

void t5(const ConfigReader& reader, Config& config) {
  config.kind = ModelKind::encoder_decoder;
  config.vocab_size = 32128;
  config.n_positions = 512;
  config.n_embd = 512;
  config.n_encoder_layer = 6;
  config.n_head = 8;
  config.n_inner = 2048;
  config.head_dim = 64;
  reader.size(config.vocab_size, "vocab_size");
  reader.size(config.n_positions, "n_positions");
  reader.size(config.n_embd, "d_model");
  reader.integer(config.n_encoder_layer, 1, 100'000, "num_layers");
  config.n_layer = config.n_encoder_layer;
  reader.integer(config.n_layer, 1, 100'000, "num_decoder_layers");
  reader.size(config.n_head, "num_heads");
  reader.size(config.head_dim, "d_kv");
  reader.size(config.n_inner, "d_ff");
  config.n_kv_head = config.n_head;
  config.embedding_size = config.n_embd;

  config.positions = Positions::relative;
  reader.integer(config.relative.buckets, 4, 65536, "relative_attention_num_buckets");
  reader.integer(config.relative.max_distance, 2, 65536, "relative_attention_max_distance");
  if (config.relative.buckets % 4 != 0 ||
      config.relative.max_distance <= config.relative.buckets / 2) {
    reader.invalid("relative_attention_num_buckets " + std::to_string(config.relative.buckets) +
                   " is not a multiple of 4 below twice relative_attention_max_distance " +
                   std::to_string(config.relative.max_distance));
  }
  constexpr std::int64_t kLargestTable = 1 << 26;  // of biases by distance; T5-11B: 32896
  if (config.n_head > kLargestTable / (2 * config.relative.max_distance + 1)) {
    reader.invalid(std::to_string(config.n_head) +
                   " heads with a relative_attention_max_distance of " +
                   std::to_string(config.relative.max_distance) + " are beyond any model");
  }
  config.attention_scale = 1.0f;
  config.norm = NormKind::rms;
  config.norm_bias = false;
  config.norm_epsilon = 1e-6f;
  reader.number(config.norm_epsilon, "layer_norm_epsilon");
  config.qkv_bias = config.attention_output_bias = config.mlp_bias = false;
  read_feed_forward(reader, config, "relu");

  // T5's files said "not tied" of models that do not scale what the head reads, and the others are
  // tied whatever the files say; transformers 5 writes both.
  bool scaled = true;
  reader.boolean(scaled, "tie_word_embeddings");
  reader.boolean(scaled, "scale_decoder_outputs");
  if (scaled) config.logit_divisor = std::sqrt(static_cast<float>(config.n_embd));
  config.head_may_be_stored = true;

  config.bos_token_id = -1;
  config.eos_token_ids = {1};
  reader.integer(config.decoder_start_id, 0, kSizeLimit, "pad_token_id");
  reader.integer(config.decoder_start_id, 0, kSizeLimit, "decoder_start_token_id");
}

}  // namespace kvant::models
