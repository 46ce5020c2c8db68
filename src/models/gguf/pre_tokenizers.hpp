#pragma once

// How GGUF files call the ways of splitting text before byte-pair encoding ("tokenizer.ggml.pre"),
// and what tokenizer.json says for each.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace kvant::models {

/// Sets pre_tokenizer, normalizer and model.ignore_merges of a byte-level tokenizer.json.
/// @return false: the name is not known
[[nodiscard]] bool apply_gguf_pre_tokenizer(std::string_view name, nlohmann::json& tokenizer);

/// The name of how a byte-level tokenizer.json splits; empty: GGUF has none that kvant knows.
[[nodiscard]] std::string gguf_pre_tokenizer(const nlohmann::json& tokenizer);

/// Whether text is spelled in the byte alphabet.
[[nodiscard]] bool is_byte_level(const nlohmann::json& tokenizer);

/// Texts of this kind begin with bos where the file does not say.
[[nodiscard]] bool begins_with_bos(std::string_view pre_tokenizer);

/// The names, for messages.
inline constexpr std::string_view kGgufPreTokenizers =
    "gpt-2, roberta-bpe, smollm, starcoder, refact, command-r, llama-bpe, qwen2";

}  // namespace kvant::models
