#include "models/gguf/word_pieces.hpp"

#include <algorithm>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "models/gguf/token_types.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

constexpr std::string_view kBegins = "\u2581";
constexpr std::string_view kContinues = "##";
constexpr std::int64_t kLongestWord = 100;  // characters; llama.cpp has no such limit
constexpr const char* kLowercase = "tokenizer.ggml.normalizer.lowercase";
constexpr const char* kStripAccents = "tokenizer.ggml.normalizer.strip_accents";

/// "[CLS]", "[unused7]": older converters leave them as they are, whatever their type.
bool in_brackets(std::string_view token) {
  return token.size() > 2 && token.front() == '[' && token.back() == ']';
}

struct NamedToken {
  std::string spelling;
  std::int64_t id;
};

/// The token whose id the first of the keys holds that there is; else the one that BERT's
/// vocabularies spell so: not all converters name them.
NamedToken named(const io::Gguf& file, std::initializer_list<const char*> keys,
                 std::string_view spelling, const std::vector<std::string_view>& tokens) {
  std::int64_t id = std::find(tokens.begin(), tokens.end(), spelling) - tokens.begin();
  for (const char* key : keys) {
    const auto value = file.integer(std::string("tokenizer.ggml.") + key);
    if (!value) continue;
    id = *value;
    break;
  }
  if (id < 0 || id >= static_cast<std::int64_t>(tokens.size()) ||
      io::find_invalid_utf8(tokens[static_cast<std::size_t>(id)]) !=
          tokens[static_cast<std::size_t>(id)].size()) {
    throw Error(ErrorCode::invalid_file, file.name() + ": tokenizer.ggml." + *keys.begin() +
                                             " names no token, and " + std::string(spelling) +
                                             " is not in the vocabulary");
  }
  return {std::string(tokens[static_cast<std::size_t>(id)]), id};
}

}  // namespace

std::vector<std::string> word_pieces_in(const io::Gguf& file,
                                        const std::vector<std::string_view>& tokens) {
  const auto types = file.numbers("tokenizer.ggml.token_type");
  std::vector<std::string> result;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    const bool control = types && id < types->size() && (*types)[id] == kControlToken;
    if (token.starts_with(kBegins) && !control) {
      result.emplace_back(token.substr(kBegins.size()));
    } else if (control || in_brackets(token)) {
      result.emplace_back(token);
    } else {
      result.push_back(std::string(kContinues).append(token));
    }
  }
  return result;
}

void read_gguf_word_pieces(const io::Gguf& file, const std::vector<std::string_view>& tokens,
                           json& tokenizer) {
  const NamedToken unknown = named(file, {"unknown_token_id"}, "[UNK]", tokens);
  const NamedToken begin = named(file, {"bos_token_id", "cls_token_id"}, "[CLS]", tokens);
  const NamedToken end = named(file, {"seperator_token_id"}, "[SEP]", tokens);
  json vocabulary = std::move(tokenizer["model"]["vocab"]);
  tokenizer["model"] = {{"type", "WordPiece"},
                        {"unk_token", unknown.spelling},
                        {"continuing_subword_prefix", kContinues},
                        {"max_input_chars_per_word", kLongestWord},
                        {"vocab", std::move(vocabulary)}};
  const auto accents = file.boolean(kStripAccents);
  tokenizer["normalizer"] = {{"type", "BertNormalizer"},
                             {"clean_text", true},
                             {"handle_chinese_chars", true},
                             {"strip_accents", accents ? json(*accents) : json()},
                             {"lowercase", file.boolean(kLowercase).value_or(true)}};
  tokenizer["pre_tokenizer"] = {{"type", "BertPreTokenizer"}};
  tokenizer["decoder"] = {{"type", "WordPiece"}, {"prefix", kContinues}, {"cleanup", true}};
  tokenizer["post_processor"] = {{"type", "BertProcessing"},
                                 {"cls", {begin.spelling, begin.id}},
                                 {"sep", {end.spelling, end.id}}};
}

std::string write_gguf_word_pieces(const json& tokenizer, std::vector<std::string>& tokens,
                                   const std::vector<std::int32_t>& types, io::GgufWriter& writer) {
  const json& model = tokenizer.at("model");
  if (model.value("continuing_subword_prefix", std::string(kContinues)) != kContinues ||
      model.value("max_input_chars_per_word", kLongestWord) != kLongestWord) {
    return "words are spelled in a way (continuing_subword_prefix, max_input_chars_per_word)";
  }
  const json normalizer = tokenizer.value("normalizer", json());
  const json splitter = tokenizer.value("pre_tokenizer", json());
  if (!normalizer.is_object() || normalizer.value("type", "") != "BertNormalizer" ||
      !normalizer.value("clean_text", true) || !normalizer.value("handle_chinese_chars", true) ||
      !splitter.is_object() || splitter.value("type", "") != "BertPreTokenizer") {
    return "text is normalized or split in a way (normalizer, pre_tokenizer)";
  }
  std::vector<std::string> spelled;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string& token = tokens[id];
    if (types[id] == kControlToken) {
      spelled.push_back(token);
    } else if (token.starts_with(kContinues)) {
      spelled.push_back(token.substr(kContinues.size()));
      if (spelled.back().starts_with(kBegins) || in_brackets(spelled.back())) {
        return "the token " + io::in_quotes(token) + " is in the vocabulary";
      }
    } else {
      spelled.push_back(std::string(kBegins) + token);
    }
  }
  tokens = std::move(spelled);
  const bool lower = normalizer.value("lowercase", true);
  const json accents = normalizer.value("strip_accents", json());
  // Where a file does not say, text is lowercase, and loses its accents with its capitals.
  if (!lower) writer.set(kLowercase, false);
  if (accents.is_boolean() && accents.get<bool>() != lower) {
    writer.set(kStripAccents, accents.get<bool>());
  }
  writer.set("tokenizer.ggml.model", "bert");
  writer.set("tokenizer.ggml.pre", "default");
  return {};
}

}  // namespace kvant::models
