#pragma once

// How one piece of text becomes tokens: the "model" of tokenizer.json.

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/models/tokenizer.hpp"

namespace kvant::models {

/// SentencePiece's sign for a space.
inline constexpr std::string_view kMetaspace = "\u2581";

/// @throws Error of that code: the file and what is wrong with it
[[noreturn]] void refuse_tokenizer(ErrorCode code, const std::string& file,
                                   const std::string& what);

/// Ids beyond any vocabulary: tables are sized by the largest one.
inline constexpr TokenId kMaxTokenId = 1 << 24;

/// Spelling -> id.
using Vocabulary = std::unordered_map<std::string, TokenId>;

class SubwordModel {
 public:
  virtual ~SubwordModel() = default;
  /// Appends the ids of a piece, valid UTF-8.
  virtual void encode(std::string_view piece, std::vector<TokenId>& out) const = 0;
  [[nodiscard]] virtual const Vocabulary& vocabulary() const = 0;
};

/// By its "type": BPE, Unigram, WordPiece.
/// @param bytes pieces are spelled in the byte alphabet
/// @throws Error invalid_file; unsupported (another type, and what a type is not built for)
[[nodiscard]] std::unique_ptr<SubwordModel> make_subword_model(const nlohmann::json& model,
                                                               bool bytes, const std::string& file);

// For the readers of the types.

/// {"token": id}. @throws Error invalid_file
[[nodiscard]] Vocabulary read_vocabulary(const nlohmann::json& model, const std::string& file);
/// -1: not in the vocabulary.
[[nodiscard]] TokenId find_token(const Vocabulary& vocabulary, const std::string& token);
/// SentencePiece's spelling of a byte, "<0x0A>".
[[nodiscard]] std::string byte_token(unsigned byte);
/// A text in a message: in quotes, never longer than a line.
[[nodiscard]] std::string shortened(std::string_view text);

}  // namespace kvant::models
