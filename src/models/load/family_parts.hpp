#pragma once

// What families have in common: sizes, heads, activations, windows, and the two forms that most of
// them differ from, GPT-2 and Llama.

#include <cstdint>
#include <string>

#include "models/load/families.hpp"

namespace kvant::models {

/// Sizes of the family's first model: what a config.json that does not say means.
struct Sizes {
  std::int64_t vocabulary, positions, width, layers, heads, inner;
};

/// Sizes and heads. `old_names` prefers GPT-2's keys to the newer ones, where both are there.
void read_sizes(const ConfigReader& reader, Config& config, const Sizes& sizes,
                bool old_names = false);
/// head_dim = n_embd / n_head. @throws Error invalid_file
void divide_heads(const ConfigReader& reader, Config& config);
void read_activation(const ConfigReader& reader, Config& config, const char* key,
                     const char* fallback);
void read_attention_bias(const ConfigReader& reader, Config& config);

/// "sliding_window" for every layer; `window` where it is missing (0: none), none where it is null.
void all_layers_slide(const ConfigReader& reader, Config& config, std::int64_t window);
/// A window for the layers that "layer_types" names, or that `slides` where it is missing.
void some_layers_slide(const ConfigReader& reader, Config& config, std::int64_t window,
                       bool (*slides)(std::int64_t layer, std::int64_t first),
                       std::int64_t first = 0);

/// RMS norms, rotary positions, a gated MLP, no biases: Llama.
/// @param kv_heads the default; 0: as many as query heads
void llama_like(const ConfigReader& reader, Config& config, const Sizes& sizes,
                std::int64_t kv_heads, float epsilon, const char* activation_key = "hidden_act",
                const char* activation = "silu");
/// Layer norms, learned positions, biases everywhere: GPT-2.
void gpt2_like(const ConfigReader& reader, Config& config, const char* activation);

}  // namespace kvant::models
