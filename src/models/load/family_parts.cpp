#include "models/load/family_parts.hpp"

#include <array>
#include <string_view>
#include <utility>

namespace kvant::models {

void read_sizes(const ConfigReader& reader, Config& config, const Sizes& sizes, bool old_names) {
  const auto pair = [&](std::int64_t& value, std::int64_t high, const char* older,
                        const char* newer) {
    reader.integer(value, 1, high, old_names ? older : newer, old_names ? newer : older);
  };
  config.vocab_size = sizes.vocabulary;
  config.n_positions = sizes.positions;
  config.n_embd = sizes.width;
  config.n_layer = sizes.layers;
  config.n_head = sizes.heads;
  config.n_inner = sizes.inner;
  reader.size(config.vocab_size, "vocab_size");
  pair(config.n_positions, kSizeLimit, "n_positions", "max_position_embeddings");
  pair(config.n_embd, kSizeLimit, "n_embd", "hidden_size");
  reader.size(config.n_embd, "n_embed");  // of the first BLOOM and Falcon
  pair(config.n_layer, 100'000, "n_layer", "num_hidden_layers");
  pair(config.n_head, kSizeLimit, "n_head", "num_attention_heads");
  config.n_kv_head = config.n_head;
  config.head_dim = 0;
  config.embedding_size = config.n_embd;
}

void divide_heads(const ConfigReader& reader, Config& config) {
  if (config.n_embd % config.n_head != 0) {
    reader.invalid("a hidden size (n_embd) of " + std::to_string(config.n_embd) +
                   " is not divisible by " + std::to_string(config.n_head) +
                   " attention heads (n_head)");
  }
  config.head_dim = config.n_embd / config.n_head;
}

void read_activation(const ConfigReader& reader, Config& config, const char* key,
                     const char* fallback) {
  constexpr std::array<std::pair<std::string_view, Activation>, 9> kNames = {{
      {"gelu", Activation::gelu_erf},
      {"gelu_fast", Activation::gelu_tanh},
      {"gelu_new", Activation::gelu_tanh},
      {"gelu_python", Activation::gelu_erf},
      {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"quick_gelu", Activation::quick_gelu},
      {"relu", Activation::relu},
      {"silu", Activation::silu},
      {"swish", Activation::silu},
  }};
  const std::string name = reader.text(key, fallback);
  std::string known;
  for (const auto& [each, activation] : kNames) {
    if (each == name) {
      config.activation = activation;
      return;
    }
    known.append(known.empty() ? "" : ", ").append(each);
  }
  reader.unsupported(std::string(key) + " \"" + name.substr(0, 80) + "\" is not one of " + known);
}

void all_layers_slide(const ConfigReader& reader, Config& config, std::int64_t window) {
  if (reader.is_null("sliding_window")) return;
  reader.size(window, "sliding_window");
  if (window > 0) config.windows.assign(static_cast<std::size_t>(config.n_layer), window);
}

void some_layers_slide(const ConfigReader& reader, Config& config, std::int64_t window,
                       bool (*slides)(std::int64_t layer, std::int64_t first), std::int64_t first) {
  const nlohmann::json* types = reader.find("layer_types");
  if (types != nullptr &&
      (!types->is_array() || types->size() != static_cast<std::size_t>(config.n_layer))) {
    reader.invalid("layer_types is not a list of " + std::to_string(config.n_layer) + " names");
  }
  for (std::int64_t n = 0; n < config.n_layer; ++n) {
    bool here = types == nullptr && window > 0 && slides(n, first);
    if (types != nullptr) {
      const nlohmann::json& type = (*types)[static_cast<std::size_t>(n)];
      const auto* name = type.get_ptr<const std::string*>();
      here = name != nullptr && *name == "sliding_attention";
      if (!here && (name == nullptr || *name != "full_attention")) {
        reader.unsupported("layer_types holds " + type.dump().substr(0, 60) +
                           ", not full_attention or sliding_attention");
      }
      if (here && window == 0) reader.invalid("layer_types slides, and sliding_window is missing");
    }
    if (here && config.windows.empty()) {
      config.windows.assign(static_cast<std::size_t>(config.n_layer), 0);
    }
    if (here) config.windows[static_cast<std::size_t>(n)] = window;
  }
}

void llama_like(const ConfigReader& reader, Config& config, const Sizes& sizes,
                std::int64_t kv_heads, float epsilon, const char* activation_key,
                const char* activation) {
  read_sizes(reader, config, sizes);
  reader.size(config.n_inner, "intermediate_size");
  if (kv_heads > 0) config.n_kv_head = kv_heads;
  if (reader.is_null("num_key_value_heads")) config.n_kv_head = config.n_head;
  reader.size(config.n_kv_head, "num_key_value_heads");
  config.positions = Positions::rotary;
  config.norm = NormKind::rms;
  config.norm_epsilon = epsilon;
  reader.number(config.norm_epsilon, "rms_norm_eps");
  config.norm_bias = false;
  config.qkv_bias = config.attention_output_bias = config.mlp_bias = false;
  config.gated_mlp = true;
  config.tie_word_embeddings = false;
  config.bos_token_id = 1;
  config.eos_token_ids = {2};
  read_activation(reader, config, activation_key, activation);
  reader.size(config.head_dim, "head_dim");
  if (config.head_dim == 0) divide_heads(reader, config);
}

void read_attention_bias(const ConfigReader& reader, Config& config) {
  reader.boolean(config.qkv_bias, "attention_bias");
  config.attention_output_bias = config.qkv_bias;
}

void gpt2_like(const ConfigReader& reader, Config& config, const char* activation) {
  read_sizes(reader, config, {50257, 1024, 768, 12, 12, 0}, true);
  config.n_inner = 4 * config.n_embd;
  reader.size(config.n_inner, "n_inner");
  reader.number(config.norm_epsilon, "layer_norm_epsilon");
  read_activation(reader, config, "activation_function", activation);
  divide_heads(reader, config);
  bool scaled = true;
  reader.boolean(scaled, "scale_attn_weights");
  if (!scaled) config.attention_scale = 1.0f;
  config.bos_token_id = 50256;
  config.eos_token_ids = {50256};
  reader.require_false({"add_cross_attention"});
}

}  // namespace kvant::models
