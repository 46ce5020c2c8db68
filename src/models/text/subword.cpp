#include "models/text/subword.hpp"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "kvant/error.hpp"
#include "models/text/bpe.hpp"
#include "models/text/unigram.hpp"
#include "models/text/word_piece.hpp"

namespace kvant::models {

void refuse_tokenizer(ErrorCode code, const std::string& file, const std::string& what) {
  throw Error(code, file + ": " + what);
}
namespace {

/// Old files do not say it.
std::string type_of(const nlohmann::json& model) {
  if (model.contains("type")) return model.value("type", "");
  if (model.contains("max_input_chars_per_word")) return "WordPiece";
  const auto vocabulary = model.find("vocab");
  return vocabulary != model.end() && vocabulary->is_array() ? "Unigram" : "BPE";
}

}  // namespace

std::unique_ptr<SubwordModel> make_subword_model(const nlohmann::json& model, bool bytes,
                                                 const std::string& file) {
  if (!model.is_object()) {
    throw Error(ErrorCode::invalid_file, file + ": the model is not an object");
  }
  const std::string type = type_of(model);
  if (type == "BPE") return std::make_unique<Bpe>(model, bytes, file);
  if (type != "Unigram" && type != "WordPiece") {
    throw Error(ErrorCode::unsupported, file + ": the model is of type " + shortened(type) +
                                            ", not BPE, Unigram or WordPiece");
  }
  if (bytes) {
    throw Error(ErrorCode::unsupported,
                file + ": a model of type " + type + " behind a byte-level pre_tokenizer");
  }
  if (type == "Unigram") return std::make_unique<Unigram>(model, file);
  return std::make_unique<WordPiece>(model, file);
}

Vocabulary read_vocabulary(const nlohmann::json& model, const std::string& file) {
  const auto json = model.find("vocab");
  if (json == model.end() || !json->is_object()) {
    throw Error(ErrorCode::invalid_file, file + ": model.vocab is not an object");
  }
  Vocabulary result;
  result.reserve(json->size());
  for (const auto& [token, id] : json->items()) {
    const std::int64_t number = id.is_number_integer() ? id.get<std::int64_t>() : -1;
    if (number < 0 || number > kMaxTokenId) {
      throw Error(ErrorCode::invalid_file, file + ": model.vocab: the id of " + shortened(token) +
                                               " is " + id.dump().substr(0, 40));
    }
    result.emplace(token, static_cast<TokenId>(number));
  }
  return result;
}

TokenId find_token(const Vocabulary& vocabulary, const std::string& token) {
  const auto it = vocabulary.find(token);
  return it == vocabulary.end() ? -1 : it->second;
}

std::string byte_token(unsigned byte) {
  char text[8];
  std::snprintf(text, sizeof text, "<0x%02X>", byte);
  return text;
}

std::string shortened(std::string_view text) {
  return "\"" + std::string(text.substr(0, 60)) + (text.size() > 60 ? "...\"" : "\"");
}

}  // namespace kvant::models
