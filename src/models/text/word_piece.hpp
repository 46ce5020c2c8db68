#pragma once

// BERT's WordPiece: a word becomes the longest token that it begins with, then the longest of its
// rest that is spelled with the prefix of continuations, and so on.

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/subword.hpp"

namespace kvant::models {

class WordPiece final : public SubwordModel {
 public:
  /// @throws Error invalid_file (a vocabulary without the unknown token, ...)
  WordPiece(const nlohmann::json& model, const std::string& file);

  /// A word that cannot be spelled, or is longer than max_input_chars_per_word, is unknown.
  void encode(std::string_view word, std::vector<TokenId>& out) const override;
  [[nodiscard]] const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  Vocabulary vocabulary_;
  std::string continuation_;  // "##"
  std::size_t longest_ = 0;   // bytes of a token
  std::size_t max_characters_ = 100;
  TokenId unknown_ = -1;
};

}  // namespace kvant::models
