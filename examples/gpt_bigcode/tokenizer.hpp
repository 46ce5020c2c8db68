#pragma once

// Byte-level BPE from a tokenizer.json.

#include <array>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "pre_tokenizer.hpp"
#include "utf8.hpp"

namespace gpt_bigcode {

using TokenId = std::int32_t;

/// Text <-> token ids. Not thread-safe.
class Tokenizer {
 public:
  /// @throws kvant::Error io, invalid_file; unsupported for what this tokenizer does not do: a
  ///         normalizer, a model other than BPE, dropout, unknown-token or affix settings
  explicit Tokenizer(const std::filesystem::path& path);
  Tokenizer(const nlohmann::json& json, const std::string& file);

  /// Added tokens are found first, the rest is split and merged; no bos or eos is added. Bytes that
  /// are not UTF-8 count as U+FFFD: files of unknown encoding get ids, never an error. A byte whose
  /// symbol is not in the vocabulary is dropped, as the reference does without an unknown token.
  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const;

  /// The bytes of one token; empty for ids without a token (vocabularies are often padded), and
  /// for special tokens if they are to be skipped.
  [[nodiscard]] std::string token_bytes(TokenId id, bool skip_special = true) const;

  /// The text of ids, with U+FFFD for what is not UTF-8. While generating, feed token_bytes to a
  /// Utf8Stream instead.
  [[nodiscard]] std::string decode(const std::vector<TokenId>& ids, bool skip_special = true) const;

  /// Highest id with a token, plus 1.
  [[nodiscard]] std::size_t size() const noexcept { return tokens_.size(); }

 private:
  struct AddedToken {
    std::string content;
    TokenId id = 0;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
  };
  struct Token {
    std::string bytes;
    bool special = false;
  };
  struct Merge {
    std::int32_t rank;
    TokenId merged;
  };

  void read_vocabulary(const nlohmann::json& model, const std::string& file);
  void read_merges(const nlohmann::json& model, const std::string& file);
  void read_added_tokens(const nlohmann::json& json, const std::string& file);
  void set_token(TokenId id, std::string bytes, bool special, const std::string& file);
  [[nodiscard]] const AddedToken* added_token_at(std::string_view text, std::size_t at) const;
  void encode_stretch(std::string_view text, std::vector<TokenId>& out) const;
  void encode_piece(std::string_view piece, std::vector<TokenId>& out) const;

  PreTokenizer pre_tokenizer_;
  Regex word_;
  Regex space_;
  std::unordered_map<std::string, TokenId> vocabulary_;  // spelled in the byte alphabet
  std::unordered_map<std::uint64_t, Merge> merges_;      // by (left id, right id)
  std::array<TokenId, 256> byte_ids_{};                  // -1: not in the vocabulary
  std::array<std::vector<AddedToken>, 256> added_;       // by first byte, longest first
  std::vector<Token> tokens_;
  bool ignore_merges_ = false;
};

}  // namespace gpt_bigcode
