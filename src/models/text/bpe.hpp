#pragma once

// Byte-pair encoding of one piece of text, as the "model" of tokenizer.json says: byte-level, whose
// symbols are bytes, or SentencePiece's, whose symbols are characters, with bytes for unknown ones.

#include <array>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "models/text/subword.hpp"

namespace kvant::models {

class Bpe final : public SubwordModel {
 public:
  /// @param bytes pieces are spelled in the byte alphabet
  /// @throws Error invalid_file; unsupported (dropout, affixes)
  Bpe(const nlohmann::json& model, bool bytes, const std::string& file);

  void encode(std::string_view piece, std::vector<TokenId>& out) const override;
  [[nodiscard]] const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  struct Merge {
    std::int32_t rank;
    TokenId merged;
  };

  void read_merges(const nlohmann::json& model, const std::string& file);
  [[nodiscard]] TokenId find(const std::string& token) const {
    return find_token(vocabulary_, token);
  }
  /// The ids of a piece before any merge.
  [[nodiscard]] std::vector<TokenId> symbols(std::string_view piece) const;
  void merge(const std::vector<TokenId>& ids, std::vector<TokenId>& out) const;

  bool bytes_;
  bool byte_fallback_ = false;
  bool ignore_merges_ = false;
  bool fuse_unknown_ = false;
  TokenId unknown_ = -1;
  Vocabulary vocabulary_;
  std::unordered_map<std::uint64_t, Merge> merges_;  // by (left id, right id)
  std::array<TokenId, 256> byte_ids_{};              // -1: not in the vocabulary
};

}  // namespace kvant::models
