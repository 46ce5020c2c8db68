#pragma once

// BERT's vocab.txt, a token a line, as tokenizer.json.

#include <filesystem>
#include <nlohmann/json_fwd.hpp>

namespace kvant::models {

/// WordPiece with what tokenizer_config.json, where there is one, says of case, accents and special
/// tokens. @throws Error io, invalid_file
[[nodiscard]] nlohmann::json word_piece_tokenizer(const std::filesystem::path& folder);

}  // namespace kvant::models
