#pragma once

// WordPiece (BERT's tokenizer) in GGUF files, where its kind is "bert": a word's first token begins
// with SentencePiece's sign for a space, the others have no "##" in front.

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/gguf.hpp"
#include "kvant/io/gguf_writer.hpp"

namespace kvant::models {

/// The tokens as vocab.txt spells them.
[[nodiscard]] std::vector<std::string> word_pieces_in(const io::Gguf& file,
                                                      const std::vector<std::string_view>& tokens);

/// Sets model (but for its vocabulary), normalizer, pre_tokenizer, post_processor and decoder of a
/// tokenizer.json.
/// @param tokens of word_pieces_in
/// @throws Error invalid_file: there is no unknown token, or none to put around a text
void read_gguf_word_pieces(const io::Gguf& file, const std::vector<std::string_view>& tokens,
                           nlohmann::json& tokenizer);

/// Writes the kind and how text is normalized; changes the spellings.
/// @param tokenizer tokenizer.json with a WordPiece model, which has been checked
/// @return what GGUF cannot say of it; then nothing was written; empty: it can
[[nodiscard]] std::string write_gguf_word_pieces(const nlohmann::json& tokenizer,
                                                 std::vector<std::string>& tokens,
                                                 const std::vector<std::int32_t>& types,
                                                 io::GgufWriter& writer);

}  // namespace kvant::models
