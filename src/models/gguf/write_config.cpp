// A model's description as metadata of a GGUF file.

#include <string>

#include "models/gguf/gguf_model.hpp"

namespace kvant::models {
namespace {

class KeyWriter {
 public:
  KeyWriter(const GgufArchitecture& architecture, io::GgufWriter& writer)
      : room_(std::string(architecture.name) + "."), writer_(writer) {}

  void size(const char* name, std::int64_t value) {
    writer_.set(room_ + name, static_cast<std::uint32_t>(value));  // below kSizeLimit
  }
  void number(const char* name, float value) { writer_.set(room_ + name, value); }
  void text(const char* name, const char* value) { writer_.set(room_ + name, value); }
  void boolean(const char* name, bool value) { writer_.set(room_ + name, value); }

 private:
  std::string room_;
  io::GgufWriter& writer_;
};

void write_rotary(const Config& config, KeyWriter& keys) {
  const Rotary& rotary = config.rotary;
  keys.size("rope.dimension_count", rotary.dims);
  keys.number("rope.freq_base", rotary.theta);
  if (rotary.scaling == RotaryScaling::linear) {
    keys.text("rope.scaling.type", "linear");
    keys.number("rope.scaling.factor", rotary.factor);
  } else if (rotary.scaling == RotaryScaling::yarn) {
    keys.text("rope.scaling.type", "yarn");
    keys.number("rope.scaling.factor", rotary.factor);
    keys.size("rope.scaling.original_context_length", rotary.original_length);
  }
}

}  // namespace

void write_gguf_config(const Config& config, const GgufArchitecture& architecture,
                       io::GgufWriter& writer) {
  KeyWriter keys(architecture, writer);
  writer.set("general.architecture", std::string(architecture.name));
  keys.size("context_length", config.n_positions);
  keys.size("embedding_length", config.n_embd);
  const bool t5 = architecture.name == "t5";
  keys.size("block_count", t5 ? config.n_encoder_layer : config.n_layer);
  keys.size("feed_forward_length", config.n_inner);
  keys.size("attention.head_count", config.n_head);
  keys.size("attention.head_count_kv", config.n_kv_head);
  keys.number(config.norm == NormKind::rms ? "attention.layer_norm_rms_epsilon"
                                           : "attention.layer_norm_epsilon",
              config.norm_epsilon);
  keys.size("vocab_size", config.vocab_size);
  const bool own_heads = config.head_dim * config.n_head != config.n_embd;
  if (own_heads || t5 || architecture.name == "qwen3" || architecture.name == "gemma2") {
    keys.size("attention.key_length", config.head_dim);
    keys.size("attention.value_length", config.head_dim);
  }
  if (config.positions == Positions::rotary) write_rotary(config, keys);
  if (!config.windows.empty()) keys.size("attention.sliding_window", config.window(0));
  if (config.n_expert > 0) {
    keys.size("expert_count", config.n_expert);
    keys.size("expert_used_count", config.n_expert_used);
  }
  if (t5) {
    keys.size("decoder_block_count", config.n_layer);
    keys.size("decoder_start_token_id", config.decoder_start_id);
    keys.size("attention.relative_buckets_count", config.relative.buckets);
    // transformers reads the epsilon under this name, llama.cpp under the other.
    keys.number("attention.layer_norm_epsilon", config.norm_epsilon);
  } else if (architecture.name == "bert") {
    keys.boolean("attention.causal", false);
    writer.set(kGgufTokenTypeCount, static_cast<std::uint32_t>(config.n_token_type));
  } else if (architecture.name == "gptneox") {
    keys.boolean("use_parallel_residual", config.residual == Residual::parallel);
  } else if (architecture.name == "granite") {
    keys.number("attention.scale", config.attention_scale);
    keys.number("embedding_scale", config.embedding_multiplier);
    keys.number("residual_scale", config.residual_multiplier);
    keys.number("logit_scale", config.logit_divisor);
  } else if (architecture.name == "gemma2") {
    if (config.attention_softcap > 0) {
      keys.number("attn_logit_softcapping", config.attention_softcap);
    }
    if (config.logit_softcap > 0) keys.number("final_logit_softcapping", config.logit_softcap);
  }
}

}  // namespace kvant::models
