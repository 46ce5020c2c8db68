#include "models/text/word_piece.hpp"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

bool begins_character(char c) {
  return (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

}  // namespace

WordPiece::WordPiece(const nlohmann::json& model, const std::string& file)
    : vocabulary_(read_vocabulary(model, file)),
      continuation_(model.value("continuing_subword_prefix", "##")) {
  const auto limit = model.value("max_input_chars_per_word", std::int64_t{100});
  max_characters_ = static_cast<std::size_t>(std::max<std::int64_t>(0, limit));
  for (const auto& [token, id] : vocabulary_) longest_ = std::max(longest_, token.size());
  const std::string unknown = model.value("unk_token", "[UNK]");
  unknown_ = find_token(vocabulary_, unknown);
  if (unknown_ < 0) {
    throw Error(ErrorCode::invalid_file,
                file + ": model.unk_token " + shortened(unknown) + " is not in the vocabulary");
  }
}

void WordPiece::encode(std::string_view word, std::vector<TokenId>& out) const {
  const auto characters = std::count_if(word.begin(), word.end(), begins_character);
  if (static_cast<std::size_t>(characters) > max_characters_) {
    out.push_back(unknown_);
    return;
  }
  const std::size_t before = out.size();
  for (std::size_t begin = 0; begin < word.size();) {
    std::string spelled = begin > 0 ? continuation_ : std::string();
    const std::size_t prefix = spelled.size();
    spelled.append(word.substr(begin, longest_));
    TokenId id = -1;
    for (; spelled.size() > prefix; spelled.pop_back()) {
      const std::size_t end = begin + spelled.size() - prefix;
      if (end < word.size() && !begins_character(word[end])) continue;
      id = find_token(vocabulary_, spelled);
      if (id >= 0) break;
    }
    if (id < 0) {  // one part that cannot be spelled, and the whole word is unknown
      out.resize(before);
      out.push_back(unknown_);
      return;
    }
    out.push_back(id);
    begin += spelled.size() - prefix;
  }
}

}  // namespace kvant::models
