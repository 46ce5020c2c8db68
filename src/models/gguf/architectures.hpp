#pragma once

// The architectures of GGUF files that kvant reads and writes, and what each can say of a model.

#include <span>
#include <string>
#include <string_view>

#include "kvant/models/config.hpp"

namespace kvant::models {

/// One architecture in one of its uses ("llama" is Llama, Mistral and Mixtral).
struct GgufArchitecture {
  std::string_view name;        ///< general.architecture
  std::string_view model_type;  ///< config.json's
  /// Rotary positions turn neighbours: rows of q and k lie in another order than transformers'.
  bool turns_pairs = false;
  bool qkv_bias = false;     ///< biases of q, k and v: there may be
  bool output_bias = false;  ///< of the attention's output: there may be
  bool mlp_bias = false;     ///< of the MLP: there may be
  bool gelu = false;         ///< the activation is a gelu; else silu
};

/// Ascending by model_type.
[[nodiscard]] std::span<const GgufArchitecture> gguf_architectures() noexcept;
/// By model_type; null: llama.cpp has no architecture for it, or kvant does not know it.
[[nodiscard]] const GgufArchitecture* gguf_architecture_of(std::string_view model_type) noexcept;
/// "falcon, gemma2, ...": the names of all, each once.
[[nodiscard]] std::string gguf_architecture_names();

/// The architecture of a model.
/// @param where for messages
/// @throws Error unsupported: there is none, or it cannot say what the config says (the message
///         names the value)
const GgufArchitecture& require_gguf_architecture(const Config& config, const std::string& where);

}  // namespace kvant::models
