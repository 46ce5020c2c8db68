#include "kvant/models/tokenizer.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <queue>
#include <span>
#include <unordered_map>
#include <utility>

#include "io/json/json_tree.hpp"
#include "kvant/error.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/models/utf8.hpp"
#include "models/text/pre_tokenizer.hpp"

namespace kvant::models {
namespace {

/// Ids beyond any vocabulary: tokens_ is sized by the largest one.
constexpr TokenId kMaxId = 1 << 24;

[[noreturn]] void fail(ErrorCode code, const std::string& file, const std::string& what) {
  throw Error(code, file + ": " + what);
}

std::string shorten(std::string_view text) {
  return "\"" + std::string(text.substr(0, 60)) + (text.size() > 60 ? "...\"" : "\"");
}

/// The byte alphabet of byte-level BPE: printable bytes are themselves, the other 68 become
/// U+0100, U+0101, ... in increasing order.
const std::array<char32_t, 256>& byte_alphabet() {
  static const std::array<char32_t, 256> table = [] {
    std::array<char32_t, 256> result{};
    char32_t next = 0x100;
    for (unsigned b = 0; b < 256; ++b) {
      const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
      result[b] = printable ? static_cast<char32_t>(b) : next++;
    }
    return result;
  }();
  return table;
}

std::string to_alphabet(std::string_view bytes) {
  std::string result;
  for (const char c : bytes) result += encode_utf8(byte_alphabet()[static_cast<unsigned char>(c)]);
  return result;
}

/// Bytes of a token spelled in the alphabet; a token with any other character stands for itself.
std::string from_alphabet(const std::string& token) {
  static const std::unordered_map<char32_t, char> bytes = [] {
    std::unordered_map<char32_t, char> result;
    for (unsigned b = 0; b < 256; ++b) {
      result[byte_alphabet()[b]] = static_cast<char>(static_cast<unsigned char>(b));
    }
    return result;
  }();
  std::string result;
  for (std::size_t i = 0; i < token.size();) {
    const Utf8Step step = decode_utf8(token, i);
    const auto it = bytes.find(step.code);
    if (!step.valid || it == bytes.end()) return token;
    result += it->second;
    i += step.length;
  }
  return result;
}

constexpr std::uint64_t pair_key(TokenId left, TokenId right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

/// A member that must be absent, null, false or empty for this tokenizer to be exact.
void require_unset(const nlohmann::json& model, const char* key, const std::string& file) {
  const auto it = model.find(key);
  if (it == model.end() || it->is_null()) return;
  const bool unset = (it->is_boolean() && !it->get<bool>()) ||
                     (it->is_string() && it->get_ref<const std::string&>().empty()) ||
                     (it->is_number() && it->get<double>() == 0.0);
  if (!unset) {
    fail(ErrorCode::unsupported, file,
         std::string("model.") + key + " is " + it->dump().substr(0, 60) + ", not supported here");
  }
}

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

Tokenizer::State::State(const nlohmann::json& json, const std::string& file)
    : pre_tokenizer_(member(json, "pre_tokenizer"), file), word_("\\w"), space_("\\s") {
  try {
    if (!member(json, "normalizer").is_null()) {
      fail(ErrorCode::unsupported, file, "a normalizer is set; none is supported here");
    }
    const nlohmann::json& model = member(json, "model");
    if (!model.is_object() || model.value("type", "BPE") != "BPE") {
      fail(ErrorCode::unsupported, file, "the model is not of type \"BPE\"");
    }
    for (const char* key : {"dropout", "unk_token", "continuing_subword_prefix",
                            "end_of_word_suffix", "byte_fallback"}) {
      require_unset(model, key, file);
    }
    ignore_merges_ = model.value("ignore_merges", false);
    read_vocabulary(model, file);
    read_merges(model, file);
    read_added_tokens(json, file);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorCode::invalid_file, file, error.what());
  }
}

void Tokenizer::State::set_token(TokenId id, std::string bytes, bool special,
                                 const std::string& file) {
  if (id < 0 || id > kMaxId) {
    fail(ErrorCode::invalid_file, file,
         "the id " + std::to_string(id) + " is not between 0 and " + std::to_string(kMaxId));
  }
  const auto index = static_cast<std::size_t>(id);
  if (index >= tokens_.size()) tokens_.resize(index + 1);
  tokens_[index] = {std::move(bytes), special};
}

void Tokenizer::State::read_vocabulary(const nlohmann::json& model, const std::string& file) {
  const nlohmann::json& vocabulary = member(model, "vocab");
  if (!vocabulary.is_object()) {
    fail(ErrorCode::invalid_file, file, "model.vocab is not an object");
  }
  for (const auto& [token, id] : vocabulary.items()) {
    const std::int64_t number = id.is_number_integer() ? id.get<std::int64_t>() : -1;
    if (number < 0 || number > kMaxId) {
      fail(ErrorCode::invalid_file, file,
           "model.vocab: the id of " + shorten(token) + " is " + id.dump().substr(0, 40));
    }
    const auto value = static_cast<TokenId>(number);
    set_token(value, from_alphabet(token), false, file);
    vocabulary_.emplace(token, value);
  }
  for (unsigned b = 0; b < 256; ++b) {
    const auto it = vocabulary_.find(encode_utf8(byte_alphabet()[b]));
    byte_ids_[b] = it == vocabulary_.end() ? -1 : it->second;
  }
}

void Tokenizer::State::read_merges(const nlohmann::json& model, const std::string& file) {
  const nlohmann::json& merges = member(model, "merges");
  if (!merges.is_array()) {
    fail(ErrorCode::invalid_file, file, "model.merges is not an array");
  }
  std::int32_t rank = 0;
  for (const nlohmann::json& merge : merges) {
    std::string left;
    std::string right;
    if (merge.is_string()) {  // the older form, "left right"
      const auto& text = merge.get_ref<const std::string&>();
      const std::size_t space = text.find(' ');
      left = text.substr(0, space);
      if (space != std::string::npos) right = text.substr(space + 1);
    } else if (merge.is_array() && merge.size() == 2) {
      left = merge[0].get<std::string>();
      right = merge[1].get<std::string>();
    }
    const auto a = vocabulary_.find(left);
    const auto b = vocabulary_.find(right);
    const auto merged = vocabulary_.find(left + right);
    if (a == vocabulary_.end() || b == vocabulary_.end() || merged == vocabulary_.end()) {
      fail(ErrorCode::invalid_file, file,
           "model.merges[" + std::to_string(rank) + "]: " + merge.dump().substr(0, 80) +
               " does not join two tokens of the vocabulary to a third");
    }
    merges_.try_emplace(pair_key(a->second, b->second), Merge{rank, merged->second});
    ++rank;
  }
}

void Tokenizer::State::read_added_tokens(const nlohmann::json& json, const std::string& file) {
  const nlohmann::json& list = member(json, "added_tokens");
  if (list.is_null()) return;
  if (!list.is_array()) {
    fail(ErrorCode::invalid_file, file, "added_tokens is not an array");
  }
  for (const nlohmann::json& entry : list) {
    AddedToken token;
    token.content = entry.at("content").get<std::string>();
    token.id = entry.at("id").get<TokenId>();
    token.single_word = entry.value("single_word", false);
    token.lstrip = entry.value("lstrip", false);
    token.rstrip = entry.value("rstrip", false);
    if (token.content.empty()) continue;  // would match everywhere
    set_token(token.id, token.content, entry.value("special", false), file);
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
    encode_stretch(std::string_view(text).substr(done, begin - done), ids);
    ids.push_back(token->id);
    done = end;
    at = end - 1;
  }
  encode_stretch(std::string_view(text).substr(done), ids);
  return ids;
}

void Tokenizer::State::encode_stretch(std::string_view text, std::vector<TokenId>& out) const {
  for (const std::string& piece : pre_tokenizer_.split(text)) encode_piece(piece, out);
}

// Merges by a heap of candidate pairs, lowest rank first and leftmost on ties. Entries whose
// symbols have changed since are recognised by their ids and skipped. n log n, so a megabyte of one
// character is fine.
void Tokenizer::State::encode_piece(std::string_view piece, std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    if (const auto it = vocabulary_.find(to_alphabet(piece)); it != vocabulary_.end()) {
      out.push_back(it->second);
      return;
    }
  }
  struct Symbol {
    TokenId id;
    std::ptrdiff_t previous;
    std::ptrdiff_t next;
  };
  struct Candidate {
    std::int32_t rank;
    std::ptrdiff_t left;
    TokenId left_id;
    TokenId right_id;
    TokenId merged;
    bool operator>(const Candidate& other) const {
      return std::pair(rank, left) > std::pair(other.rank, other.left);
    }
  };
  std::vector<Symbol> symbols;
  symbols.reserve(piece.size());
  for (const char c : piece) {
    const TokenId id = byte_ids_[static_cast<unsigned char>(c)];
    if (id < 0) continue;
    const auto index = static_cast<std::ptrdiff_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1});
  }
  if (symbols.empty()) return;
  symbols.back().next = -1;
  const auto at = [&symbols](std::ptrdiff_t i) -> Symbol& {
    return symbols[static_cast<std::size_t>(i)];
  };

  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> heap;
  const auto consider = [&](std::ptrdiff_t left) {
    if (left < 0 || at(left).next < 0) return;
    const TokenId a = at(left).id;
    const TokenId b = at(at(left).next).id;
    const auto it = merges_.find(pair_key(a, b));
    if (it != merges_.end()) heap.push({it->second.rank, left, a, b, it->second.merged});
  };
  for (const Symbol& symbol : symbols) consider(symbol.next < 0 ? -1 : symbol.next - 1);
  while (!heap.empty()) {
    const Candidate best = heap.top();
    heap.pop();
    Symbol& left = at(best.left);
    if (left.id != best.left_id || left.next < 0 || at(left.next).id != best.right_id) continue;
    Symbol& right = at(left.next);
    left.id = best.merged;
    right.id = -1;  // dead: no candidate that names it is valid any more
    left.next = right.next;
    if (left.next >= 0) at(left.next).previous = best.left;
    consider(left.previous);
    consider(best.left);
  }
  for (std::ptrdiff_t i = 0; i >= 0; i = at(i).next) out.push_back(at(i).id);
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
  const State::Token& token = state_->tokens_[static_cast<std::size_t>(id)];
  return token.special && skip_special ? std::string() : token.bytes;
}

std::string Tokenizer::decode(const std::vector<TokenId>& ids, bool skip_special) const {
  std::string bytes;
  for (const TokenId id : ids) bytes += token_bytes(id, skip_special);
  return repair_utf8(bytes);
}

}  // namespace kvant::models
