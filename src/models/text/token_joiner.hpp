#pragma once

// From tokens back to text, as the "decoder" of tokenizer.json says. What a token stands for is
// known before (bytes, spaces); this is what depends on its place.

#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

namespace kvant::models {

/// A token of a vocabulary, or beside it.
struct Token {
  std::string bytes;
  bool special = false;
  bool added = false;  ///< found before text is split
};

class TokenJoiner {
 public:
  /// Decoders that need nothing here (ByteLevel, Fuse, ...) and unknown ones leave tokens as they
  /// are.
  explicit TokenJoiner(const nlohmann::json& json);

  /// Tokens are words and their parts (WordPiece), with spaces between words.
  [[nodiscard]] bool joins_words() const { return continues_.has_value(); }
  /// @param first it begins a text
  [[nodiscard]] std::string text_of(const Token& token, bool first) const;
  /// The whole text.
  [[nodiscard]] std::string finish(std::string text) const;

 private:
  void add(const nlohmann::json& json);

  bool strips_space_ = false;             // at the beginning of the text
  bool first_has_no_spaces_ = false;      // SentencePiece's Metaspace
  std::optional<std::string> continues_;  // WordPiece: what a token begins with inside of a word
  bool cleans_up_ = false;                // no spaces before marks and in contractions
};

}  // namespace kvant::models
