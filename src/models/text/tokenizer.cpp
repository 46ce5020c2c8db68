#include "kvant/models/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "io/json/json_tree.hpp"
#include "kvant/error.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/models/utf8.hpp"
#include "models/text/byte_alphabet.hpp"
#include "models/text/normalizer.hpp"
#include "models/text/pre_tokenizer.hpp"
#include "models/text/subword.hpp"
#include "models/text/token_joiner.hpp"

namespace kvant::models {
namespace {

const nlohmann::json& null_json() {
  static const nlohmann::json null;
  return null;
}

const nlohmann::json& member(const nlohmann::json& json, const char* key) {
  const auto it = json.find(key);
  return it == json.end() ? null_json() : *it;
}

}  // namespace

struct Tokenizer::State {
  State(const nlohmann::json& json, const std::string& file);

  [[nodiscard]] std::vector<TokenId> encode(std::string_view text) const;

  struct AddedToken {
    std::string content;
    TokenId id = 0;
    bool single_word = false;
    bool lstrip = false;
    bool rstrip = false;
  };

  void set_token(TokenId id, Token token, const std::string& file);
  [[nodiscard]] std::string bytes_of(const std::string& spelling) const;
  void read_added_tokens(const nlohmann::json& json, const std::string& file);
  void read_post_processor(const nlohmann::json& json, const std::string& file);
  [[nodiscard]] const AddedToken* added_token_at(std::string_view text, std::size_t at) const;
  void encode_stretch(std::string_view text, bool beginning, std::vector<TokenId>& out) const;

  Normalizer normalizer_;
  PreTokenizer pre_tokenizer_;
  std::unique_ptr<SubwordModel> model_;
  TokenJoiner joiner_;
  Regex word_;
  Regex space_;
  std::array<std::vector<AddedToken>, 256> added_;  // by first byte, longest first
  std::vector<Token> tokens_;
  std::vector<TokenId> prefix_;
  std::vector<TokenId> suffix_;
};

Tokenizer::State::State(const nlohmann::json& json, const std::string& file) try
    : normalizer_(member(json, "normalizer"), file),
      pre_tokenizer_(member(json, "pre_tokenizer"), file),
      model_(make_subword_model(member(json, "model"), pre_tokenizer_.byte_level(), file)),
      joiner_(member(json, "decoder")),
      word_("\\w"),
      space_("\\s") {
  for (const auto& [token, id] : model_->vocabulary()) {
    set_token(id, {bytes_of(token), false, false}, file);
  }
  read_added_tokens(json, file);
  read_post_processor(member(json, "post_processor"), file);
} catch (const nlohmann::json::exception& error) {
  refuse_tokenizer(ErrorCode::invalid_file, file, error.what());
}

void Tokenizer::State::set_token(TokenId id, Token token, const std::string& file) {
  if (id < 0 || id > kMaxTokenId) {
    refuse_tokenizer(
        ErrorCode::invalid_file, file,
        "the id " + std::to_string(id) + " is not between 0 and " + std::to_string(kMaxTokenId));
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  tokens_[index] = std::move(token);
}

/// What a token of the vocabulary stands for.
std::string Tokenizer::State::bytes_of(const std::string& spelling) const {
  if (pre_tokenizer_.byte_level()) return from_alphabet(spelling);
  if (joiner_.joins_words()) return spelling;
  unsigned byte = 0;
  if (spelling.size() == 6 && spelling.starts_with("<0x") && spelling.back() == '>' &&
      std::from_chars(spelling.data() + 3, spelling.data() + 5, byte, 16).ptr ==
          spelling.data() + 5) {
    return {static_cast<char>(static_cast<unsigned char>(byte))};
  }
  std::string result = spelling;
  for (std::size_t at = 0; (at = result.find(kMetaspace, at)) != std::string::npos; ++at) {
    result.replace(at, kMetaspace.size(), " ");
  }
  return result;
}

/// What a template puts around a single text: {"SpecialToken": {"id": ...}} before and after
/// {"Sequence": {"id": "A"}}.
void Tokenizer::State::read_post_processor(const nlohmann::json& json, const std::string& file) {
  if (!json.is_object()) return;
  const std::string type = json.value("type", "");
  if (type == "Sequence") {
    for (const nlohmann::json& step : member(json, "processors")) {
      if (step.value("type", "") != "Sequence") read_post_processor(step, file);
    }
  }
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    const auto id_in = [&](const char* name) {  // ["[SEP]", 102]
      const auto id = member(json, name).at(1).get<std::int64_t>();
      if (id < 0 || id > kMaxTokenId) {
        refuse_tokenizer(ErrorCode::invalid_file, file,
                         "post_processor: the id " + std::to_string(id) + " of " + name);
      }
      return static_cast<TokenId>(id);
    };
    prefix_.push_back(id_in("cls"));
    suffix_.push_back(id_in("sep"));
  }
  if (type != "TemplateProcessing") return;
  std::vector<TokenId>* side = &prefix_;
  for (const nlohmann::json& part : member(json, "single")) {
    if (part.contains("Sequence")) side = &suffix_;
    if (!part.contains("SpecialToken")) continue;
    const auto& token = member(json, "special_tokens").at(part.at("SpecialToken").at("id"));
    for (const nlohmann::json& id : token.at("ids")) {
      const auto value = id.get<std::int64_t>();
      if (value < 0 || value > kMaxTokenId) {
        refuse_tokenizer(ErrorCode::invalid_file, file,
                         "post_processor: the id " + std::to_string(value));
      }
      side->push_back(static_cast<TokenId>(value));
    }
  }
}

void Tokenizer::State::read_added_tokens(const nlohmann::json& json, const std::string& file) {
  const nlohmann::json& list = member(json, "added_tokens");
  if (list.is_null()) return;
  if (!list.is_array()) {
    refuse_tokenizer(ErrorCode::invalid_file, file, "added_tokens is not an array");
  }
  for (const nlohmann::json& entry : list) {
    AddedToken token;
    token.content = entry.at("content").get<std::string>();
    token.id = entry.at("id").get<TokenId>();
    token.single_word = entry.value("single_word", false);
    token.lstrip = entry.value("lstrip", false);
    token.rstrip = entry.value("rstrip", false);
    if (token.content.empty()) continue;  // would match everywhere
    set_token(token.id, {token.content, entry.value("special", false), true}, file);
    added_[static_cast<unsigned char>(token.content[0])].push_back(std::move(token));
  }
  for (std::vector<AddedToken>& tokens : added_) {
    std::stable_sort(tokens.begin(), tokens.end(), [](const AddedToken& a, const AddedToken& b) {
      return a.content.size() > b.content.size();
    });
  }
}

const Tokenizer::State::AddedToken* Tokenizer::State::added_token_at(std::string_view text,
                                                                     std::size_t at) const {
  for (const AddedToken& token : added_[static_cast<unsigned char>(text[at])]) {
    if (text.compare(at, token.content.size(), token.content) != 0) continue;
    if (token.single_word) {
      std::size_t before = at;
      while (before > 0 && (static_cast<unsigned char>(text[--before]) & 0xC0) == 0x80) {
      }
      const std::size_t after = at + token.content.size();
      if (at > 0 && word_.matches_at(text, before)) continue;
      if (after < text.size() && word_.matches_at(text, after)) continue;
    }
    return &token;
  }
  return nullptr;
}

std::vector<TokenId> Tokenizer::State::encode(std::string_view raw) const {
  const std::string text = repair_utf8(raw);
  std::vector<TokenId> ids;
  std::size_t done = 0;  // everything before it has its ids
  for (std::size_t at = 0; at < text.size(); ++at) {
    const AddedToken* token = added_token_at(text, at);
    if (token == nullptr) continue;
    std::size_t begin = at;
    std::size_t end = at + token->content.size();
    while (token->lstrip && begin > done) {
      std::size_t before = begin - 1;
      while (before > done && (static_cast<unsigned char>(text[before]) & 0xC0) == 0x80) --before;
      if (!space_.matches_at(text, before)) break;
      begin = before;
    }
    while (token->rstrip && end < text.size() && space_.matches_at(text, end)) {
      end += decode_utf8(text, end).length;
    }
    encode_stretch(std::string_view(text).substr(done, begin - done), done == 0, ids);
    ids.push_back(token->id);
    done = end;
    at = end - 1;
  }
  encode_stretch(std::string_view(text).substr(done), done == 0, ids);
  return ids;
}

void Tokenizer::State::encode_stretch(std::string_view text, bool beginning,
                                      std::vector<TokenId>& out) const {
  if (text.empty()) return;
  const std::string normalized = normalizer_.apply(std::string(text));
  for (const std::string& piece : pre_tokenizer_.split(normalized, beginning)) {
    model_->encode(piece, out);
  }
}

Tokenizer::Tokenizer(const std::filesystem::path& path)
    : Tokenizer(io::read_text_file(path), path.string()) {}

Tokenizer::Tokenizer(std::string_view json, const std::string& name)
    : state_(std::make_shared<const State>(
          io::parse_json_tree(std::as_bytes(std::span(json)), name), name)) {}

std::size_t Tokenizer::size() const noexcept {
  return state_->tokens_.size();
}

std::vector<TokenId> Tokenizer::encode(std::string_view text) const {
  return state_->encode(text);
}

std::string Tokenizer::token_bytes(TokenId id, bool skip_special) const {
  if (id < 0 || static_cast<std::size_t>(id) >= state_->tokens_.size()) return {};
  const Token& token = state_->tokens_[static_cast<std::size_t>(id)];
  if (token.special && skip_special) return {};
  return state_->joiner_.text_of(token, false);
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::string bytes;
  bool first = true;
  for (const TokenId id : ids) {
    if (id < 0 || static_cast<std::size_t>(id) >= size()) continue;
    const Token& token = state_->tokens_[static_cast<std::size_t>(id)];
    if (token.special && skip_special) continue;
    bytes += state_->joiner_.text_of(token, first);
    first = false;
  }
  return repair_utf8(state_->joiner_.finish(std::move(bytes)));
}

std::optional<TokenId> Tokenizer::find(std::string_view token) const {
  if (token.empty()) return std::nullopt;
  for (const State::AddedToken& added : state_->added_[static_cast<unsigned char>(token[0])]) {
    if (added.content == token) return added.id;
  }
  const TokenId id = find_token(state_->model_->vocabulary(), std::string(token));
  return id < 0 ? std::nullopt : std::optional(id);
}

const std::vector<TokenId>& Tokenizer::prefix() const noexcept {
  return state_->prefix_;
}

const std::vector<TokenId>& Tokenizer::suffix() const noexcept {
  return state_->suffix_;
}

}  // namespace kvant::models
