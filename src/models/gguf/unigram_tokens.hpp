#pragma once

// SentencePiece's unigram model (T5's tokenizer) in GGUF files, where its kind is "t5".

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/gguf.hpp"
#include "kvant/io/gguf_writer.hpp"

namespace kvant::models {

/// Sets model, normalizer, pre_tokenizer and decoder of a tokenizer.json.
/// @throws Error invalid_file: scores or the compiled normalization are no such lists
void read_gguf_unigram(const io::Gguf& file, const std::vector<std::string_view>& tokens,
                       nlohmann::json& tokenizer);

/// Writes the kind, the scores and how text is normalized.
/// @param tokenizer tokenizer.json with a Unigram model, which has been checked
/// @param types     of all tokens; that of the unknown one is set
/// @return what GGUF cannot say of it; then nothing was written; empty: it can
[[nodiscard]] std::string write_gguf_unigram(const nlohmann::json& tokenizer,
                                             std::vector<std::int32_t>& types,
                                             io::GgufWriter& writer);

}  // namespace kvant::models
