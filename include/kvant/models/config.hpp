#pragma once

/// @file
/// config.json of a GPTBigCode model.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::models {

/// The MLP's activation function.
enum class Activation : std::uint8_t {
  gelu_erf,   ///< "gelu", "gelu_python"
  gelu_tanh,  ///< "gelu_pytorch_tanh", "gelu_new", "gelu_fast"
  quick_gelu,
  silu,  ///< "silu", "swish"
  relu,
};

/// What config.json says of a model quantized by bitsandbytes.
struct QuantizationConfig {
  float threshold = 6.0f;  ///< llm_int8_threshold
};

/// Missing keys have Hugging Face's defaults; unknown keys are ignored.
struct Config {
  std::int64_t vocab_size = 50257;
  std::int64_t n_positions = 1024;  ///< longest sequence
  std::int64_t n_embd = 768;
  std::int64_t n_layer = 12;
  std::int64_t n_head = 12;
  std::int64_t n_inner = 3072;
  Activation activation = Activation::gelu_tanh;
  float layer_norm_epsilon = 1e-5f;
  bool scale_attn_weights = true;
  bool multi_query = true;  ///< one K/V head for all query heads
  bool tie_word_embeddings = true;
  std::int64_t bos_token_id = 50256;
  std::int64_t eos_token_id = 50256;  ///< -1: none
  std::optional<QuantizationConfig> int8;

  [[nodiscard]] std::int64_t head_dim() const { return n_embd / n_head; }
  [[nodiscard]] std::int64_t kv_heads() const { return multi_query ? 1 : n_head; }
  /// Columns of K, and of V, per token.
  [[nodiscard]] std::int64_t kv_dim() const { return kv_heads() * head_dim(); }
};

/// @param json config.json as text; @param name of the file, for messages
/// @throws Error invalid_file (not JSON, wrong type, a size that is not positive, n_embd not
///         divisible by n_head), unsupported (other model_type, activation, cross attention,
///         quantization)
[[nodiscard]] KVANT_API Config parse_config(std::string_view json, const std::string& name);
/// The same from a file. @throws Error as parse_config, io
[[nodiscard]] KVANT_API Config load_config(const std::filesystem::path& path);

}  // namespace kvant::models
