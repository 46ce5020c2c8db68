#pragma once

/// @file
/// Config: what a language model is made of, one description for all families. It is filled from
/// config.json by the table of families (src/models/load/families.cpp); the one decoder (block.hpp,
/// model.hpp) and the loader read nothing else.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::models {

/// Which tokens see which, and so what a model is good for.
enum class ModelKind : std::uint8_t {
  decoder,          ///< each token sees those before it: a text is continued
  encoder,          ///< all tokens of a text see each other: BERT
  encoder_decoder,  ///< an encoder reads one text, a decoder writes another: T5
};

/// The MLP's activation function.
enum class Activation : std::uint8_t {
  gelu_erf,   ///< "gelu", "gelu_python"
  gelu_tanh,  ///< "gelu_pytorch_tanh", "gelu_new", "gelu_fast"
  quick_gelu,
  silu,  ///< "silu", "swish"
  relu,
};

/// How a row is normalized.
enum class NormKind : std::uint8_t {
  layer,  ///< (x - mean) / sqrt(variance + epsilon)
  rms,    ///< x / sqrt(mean of squares + epsilon)
};

/// How a token's position enters.
enum class Positions : std::uint8_t {
  learned,   ///< a table, added to the embeddings
  rotary,    ///< queries and keys are rotated
  alibi,     ///< scores get a bias that grows with the key's position (arXiv 2108.12409)
  relative,  ///< scores get a bias by the distance of key and query, from a table (T5)
};

/// How rotary frequencies are stretched for sequences longer than those of the training.
enum class RotaryScaling : std::uint8_t { none, linear, dynamic, llama3, yarn };

/// What is added to the residual stream, and when.
enum class Residual : std::uint8_t {
  serial,     ///< h += attention(norm(h)); h += mlp(norm(h))
  parallel,   ///< h += attention(norm(h)) + mlp(norm(h)), both from the same h
  post_norm,  ///< h = norm(h + attention(h)); h = norm(h + mlp(h))
};

/// Rotary positions: pairs (i, i + dims / 2) of the first `dims` elements of a head turn by
/// position * frequency[i].
struct Rotary {
  std::int64_t dims = 0;
  float theta = 10000.0f;
  RotaryScaling scaling = RotaryScaling::none;
  float factor = 1.0f;
  std::int64_t original_length = 0;    ///< of the training: dynamic, llama3, yarn
  float low_frequency_factor = 1.0f;   ///< llama3
  float high_frequency_factor = 4.0f;  ///< llama3
  float beta_fast = 32.0f;             ///< yarn
  float beta_slow = 1.0f;              ///< yarn
  bool truncate = true;                ///< yarn: the ramp's ends are whole numbers
  float attention_factor = 1.0f;       ///< sine and cosine are multiplied by it (yarn)
  std::vector<float> divisors = {};    ///< of the frequencies, [dims / 2] (GGUF's rope_freqs)
};

/// Relative positions: each bucket of distances has a bias for each head. Half of the buckets are
/// single distances, the others are the wider the farther, up to max_distance (arXiv 1910.10683).
struct Relative {
  std::int64_t buckets = 32;
  std::int64_t max_distance = 128;
};

/// Names of the parts of a block that are no linear layers, from the block on ("ln_1"), and of the
/// parts outside of the blocks, after the prefix. Empty: the family has no such part.
struct PartNames {
  std::string_view attention_norm = {};
  std::string_view attention_output_norm = {};  ///< of what attention adds to the stream
  std::string_view mlp_norm = {};  ///< empty in a parallel block: it reads attention's input
  std::string_view mlp_output_norm = {};
  std::string_view q_norm = {};
  std::string_view k_norm = {};
  std::string_view cross_norm = {};     ///< of what attention over the encoder's output reads
  std::string_view position_bias = {};  ///< a table of the first block, which all blocks use
  std::string_view router = {};         ///< a linear layer: the weights of a mixture's experts
  std::string_view experts = {};        ///< expert e's layers are EXPERTS.e.NAME
  std::string_view token_types = {};    ///< a table beside the tokens'
  std::string_view embedding_norm = {};
  std::string_view final_norm = {};
  std::string_view project_in = {};  ///< a linear layer behind the embeddings, without bias
  std::string_view project_out = {};
  // A layer, the activation function and a norm between the last block and the head. Full names.
  std::string_view head_dense = {};
  std::string_view head_norm = {};
  std::string_view head_bias = {};  ///< the head's own, which is stored beside it
};

/// What config.json says of a model quantized by bitsandbytes.
struct QuantizationConfig {
  float threshold = 6.0f;  ///< llm_int8_threshold
};

/// A model. The defaults are GPTBigCode's; every number has been checked.
struct Config {
  std::string_view model_type = "gpt_bigcode";  ///< one of families()
  ModelKind kind = ModelKind::decoder;
  PartNames names = {};          ///< of a decoder's blocks, or those of an encoder alone
  PartNames encoder_names = {};  ///< of the encoder beside a decoder

  std::int64_t vocab_size = 50257;
  std::int64_t n_positions = 1024;  ///< longest sequence of the training
  std::int64_t n_embd = 768;        ///< width of the residual stream
  std::int64_t n_layer = 12;
  std::int64_t n_encoder_layer = 0;  ///< of the encoder beside a decoder
  std::int64_t n_head = 12;          ///< query heads
  std::int64_t n_kv_head = 12;       ///< key and value heads; divides n_head
  std::int64_t head_dim = 64;
  std::int64_t n_inner = 3072;  ///< width inside the MLP
  std::int64_t first_head = 0;  ///< of a rank's share of query heads (split.hpp)
  std::int64_t all_heads = 0;   ///< of which that is a share; 0: n_head, all of them

  std::int64_t embedding_size = 768;  ///< n_embd, or what project_in makes n_embd of
  float embedding_multiplier = 1.0f;
  std::int64_t n_token_type = 0;  ///< kinds of tokens that have an embedding of their own; 0: none
  bool tie_word_embeddings = true;
  /// The head is tied only in files that have none of their own (T5's say it is, and some have).
  bool head_may_be_stored = false;
  float logit_divisor = 1.0f;
  float logit_softcap = 0.0f;  ///< logits become cap * tanh(logit / cap); 0: they stay

  NormKind norm = NormKind::layer;
  float norm_epsilon = 1e-5f;
  float norm_offset = 0.0f;  ///< what is added to a norm's stored weight
  bool norm_bias = true;

  Residual residual = Residual::serial;
  float residual_multiplier = 1.0f;

  Positions positions = Positions::learned;
  std::int64_t position_offset = 0;  ///< learned: position 0 is this row of the table
  Rotary rotary = {};
  Relative relative = {};
  bool alibi_bf16 = false;  ///< Falcon: the bias is rounded to bf16, and scaled as scores are

  /// Fused q, k and v: true: for each key head its query heads, then its key, then its value;
  /// false: all queries, all keys, all values, which is also what separate layers make.
  bool qkv_by_head = false;
  bool qkv_bias = true;
  bool attention_output_bias = true;
  bool qk_norm_per_head = true;  ///< where there are q and k norms; false: over all heads at once
  float attention_scale = 0.0f;  ///< scores are multiplied by it
  bool scale_by_layer = false;   ///< and divided by the layer's number, from 1 on
  float attention_softcap = 0.0f;
  std::vector<std::int64_t> windows = {};  ///< by layer: keys that a query sees; empty, 0: all

  Activation activation = Activation::gelu_tanh;
  bool gated_mlp = false;      ///< down(activation(gate(x)) * up(x))
  bool fused_gate_up = false;  ///< one layer makes gate and up, one after the other
  bool mlp_bias = true;
  std::int64_t n_expert = 0;  ///< of a mixture; 0: one MLP
  std::int64_t n_expert_used = 0;

  /// A text to evaluate or to calibrate with begins with bos, whatever the tokenizer says.
  bool texts_begin_with_bos = false;
  std::int64_t bos_token_id = 50256;  ///< -1: none
  std::int64_t decoder_start_id = 0;  ///< what a decoder beside an encoder begins with
  std::vector<std::int64_t> eos_token_ids = {50256};  ///< generation ends after any of them
  std::optional<QuantizationConfig> int8;  ///< layers hold the 8-bit codes of bitsandbytes
  bool stored_quantized = false;           ///< layers are stored in another quantized form
  bool stored_tables = false;              ///< so is the table of tokens (GGUF)

  [[nodiscard]] std::int64_t q_dim() const { return n_head * head_dim; }
  /// Columns of K, and of V, per token.
  [[nodiscard]] std::int64_t kv_dim() const { return n_kv_head * head_dim; }
  [[nodiscard]] std::int64_t qkv_dim() const { return q_dim() + 2 * kv_dim(); }
  /// Keys that a query of a layer sees; 0: all.
  [[nodiscard]] std::int64_t window(std::int64_t layer) const {
    return windows.empty() ? 0 : windows[static_cast<std::size_t>(layer)];
  }
  [[nodiscard]] bool is_eos(std::int64_t id) const {
    for (const std::int64_t each : eos_token_ids) {
      if (each == id) return true;
    }
    return false;
  }
  /// The token that a text begins with.
  /// @throws Error invalid_file: config.json names none, or none that the vocabulary has
  [[nodiscard]] KVANT_API std::int64_t bos() const;
  /// The longest sequence that can be computed: all positions but learned ones go on beyond
  /// n_positions, though not well.
  [[nodiscard]] std::int64_t position_limit() const {
    return positions == Positions::learned ? n_positions : std::int64_t{1} << 28;
  }
};

/// The families that can be run, by config.json's model_type, in alphabetical order.
[[nodiscard]] KVANT_API std::vector<std::string_view> families();

/// Missing keys have Hugging Face's defaults for the family, keys that no family knows are ignored.
/// @param json config.json as text; @param name of the file, for messages
/// @throws Error invalid_file (not JSON, wrong type, a size that is not positive or does not fit
///         another), unsupported (other model_type, and every value that would change the results
///         in a way that is not built: activations, rope types, cross attention, quantization)
[[nodiscard]] KVANT_API Config parse_config(std::string_view json, const std::string& name);
/// The same from a file, beside which quantize_config.json or quant_config.json may say that a GPTQ
/// or AWQ model is quantized. @throws Error as parse_config, io
[[nodiscard]] KVANT_API Config load_config(const std::filesystem::path& path);

}  // namespace kvant::models
