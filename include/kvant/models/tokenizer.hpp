#pragma once

/// @file
/// Text <-> ids, from a tokenizer.json: byte-pair encoding, byte-level (GPT-2, StarCoder, Llama 3,
/// Qwen, SmolLM) and SentencePiece's (Llama 2, Mistral), SentencePiece's unigram model (T5) and
/// WordPiece (BERT).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::models {

/// The number of a token in its vocabulary.
using TokenId = std::int32_t;

/// Text <-> token ids. Copies share their tables and a match buffer: one thread at a time.
class KVANT_API Tokenizer {
 public:
  /// @throws Error io, invalid_file; unsupported for what this tokenizer does not do: a model
  ///         other than BPE, Unigram and WordPiece, dropout, affixes, and kinds of normalizers and
  ///         pre-tokenizers that are not known (the message lists those that are)
  explicit Tokenizer(const std::filesystem::path& path);
  /// @param json tokenizer.json as text; @param name of the file, for messages
  Tokenizer(std::string_view json, const std::string& name);

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

  /// What the file's post_processor puts before and after a text (a bos, for instance).
  [[nodiscard]] const std::vector<TokenId>& prefix() const noexcept;
  [[nodiscard]] const std::vector<TokenId>& suffix() const noexcept;
  /// The id of an added token, or of a token as the vocabulary spells it.
  [[nodiscard]] std::optional<TokenId> find(std::string_view token) const;

  /// Highest id with a token, plus 1.
  [[nodiscard]] std::size_t size() const noexcept;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace kvant::models
