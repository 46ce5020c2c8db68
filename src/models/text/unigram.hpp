#pragma once

// SentencePiece's unigram model (Kudo, arXiv 1804.10959): a piece of text becomes the tokens whose
// scores, logarithms of probabilities, have the largest sum.

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/subword.hpp"

namespace kvant::models {

class Unigram final : public SubwordModel {
 public:
  /// @throws Error invalid_file (a vocabulary that is no list of tokens and scores, unk_id)
  Unigram(const nlohmann::json& model, const std::string& file);

  /// A character that no token begins with is unknown: bytes where the model has them, else the
  /// unknown token, one for all that follow each other. Costs a binary search per byte of every
  /// token that begins at a character.
  void encode(std::string_view piece, std::vector<TokenId>& out) const override;
  [[nodiscard]] const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  struct Entry {
    std::string token;
    TokenId id;
  };
  /// The best way to the end of a character.
  struct Step {
    double score = 0;
    std::int64_t begin = -1;  ///< where its last token begins; -1: not reached yet
    TokenId id = -1;          ///< -1: an unknown character
  };

  void read_vocabulary(const nlohmann::json& model, const std::string& file);
  void add_unknown(std::string_view text, std::vector<TokenId>& out) const;

  std::vector<Entry> sorted_;   // by token
  std::vector<double> scores_;  // by id
  double unknown_score_ = 0;
  TokenId unknown_ = -1;
  bool byte_fallback_ = false;
  std::array<TokenId, 256> byte_ids_{};  // -1: not in the vocabulary
  Vocabulary vocabulary_;
};

}  // namespace kvant::models
