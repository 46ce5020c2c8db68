#include "models/text/bpe.hpp"

#include <functional>
#include <nlohmann/json.hpp>
#include <queue>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/models/utf8.hpp"
#include "models/text/byte_alphabet.hpp"

namespace kvant::models {
namespace {

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
    refuse_tokenizer(
        ErrorCode::unsupported, file,
        std::string("model.") + key + " is " + it->dump().substr(0, 60) + ", not supported here");
  }
}

}  // namespace

Bpe::Bpe(const nlohmann::json& model, bool bytes, const std::string& file)
    : bytes_(bytes), vocabulary_(read_vocabulary(model, file)) {
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) {
    require_unset(model, key, file);
  }
  if (bytes) {
    require_unset(model, "unk_token", file);
    require_unset(model, "byte_fallback", file);
  }
  ignore_merges_ = model.value("ignore_merges", false);
  byte_fallback_ = model.value("byte_fallback", false);
  fuse_unknown_ = model.value("fuse_unk", false);
  for (unsigned b = 0; b < 256; ++b) {
    byte_ids_[b] = find(bytes_ ? encode_utf8(byte_alphabet()[b]) : byte_token(b));
  }
  read_merges(model, file);
  const auto unknown = model.find("unk_token");
  if (unknown != model.end() && unknown->is_string()) {
    unknown_ = find(unknown->get<std::string>());
    if (unknown_ < 0) {
      refuse_tokenizer(ErrorCode::invalid_file, file,
                       "model.unk_token " + shortened(unknown->get<std::string>()) +
                           " is not in the vocabulary");
    }
  }
}

void Bpe::read_merges(const nlohmann::json& model, const std::string& file) {
  const auto merges = model.find("merges");
  if (merges == model.end() || !merges->is_array()) {
    refuse_tokenizer(ErrorCode::invalid_file, file, "model.merges is not an array");
  }
  std::int32_t rank = 0;
  for (const nlohmann::json& merge : *merges) {
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
    const TokenId a = find(left);
    const TokenId b = find(right);
    const TokenId merged = find(left + right);
    if (a < 0 || b < 0 || merged < 0) {
      refuse_tokenizer(ErrorCode::invalid_file, file,
                       "model.merges[" + std::to_string(rank) + "]: " + merge.dump().substr(0, 80) +
                           " does not join two tokens of the vocabulary to a third");
    }
    merges_.try_emplace(pair_key(a, b), Merge{rank, merged});
    ++rank;
  }
}

void Bpe::encode(std::string_view piece, std::vector<TokenId>& out) const {
  if (ignore_merges_) {
    if (const TokenId id = find(bytes_ ? to_alphabet(piece) : std::string(piece)); id >= 0) {
      out.push_back(id);
      return;
    }
  }
  const std::vector<TokenId> ids = symbols(piece);
  if (!ids.empty()) merge(ids, out);
}

std::vector<TokenId> Bpe::symbols(std::string_view piece) const {
  std::vector<TokenId> ids;
  ids.reserve(piece.size());
  const auto add_bytes = [&](std::string_view bytes) {
    for (const char c : bytes) {
      const TokenId id = byte_ids_[static_cast<unsigned char>(c)];
      if (id >= 0) ids.push_back(id);
    }
  };
  if (bytes_) {
    add_bytes(piece);
    return ids;
  }
  const auto all_bytes_known = [&](std::string_view bytes) {
    for (const char c : bytes) {
      if (byte_ids_[static_cast<unsigned char>(c)] < 0) return false;
    }
    return true;
  };
  bool after_unknown = false;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t length = decode_utf8(piece, at).length;
    const std::string_view character = piece.substr(at, length);
    at += length;
    if (const TokenId id = find(std::string(character)); id >= 0) {
      ids.push_back(id);
      after_unknown = false;
    } else if (byte_fallback_ && all_bytes_known(character)) {
      add_bytes(character);
      after_unknown = false;
    } else if (unknown_ >= 0) {
      if (!(fuse_unknown_ && after_unknown)) ids.push_back(unknown_);
      after_unknown = true;
    }
  }
  return ids;
}

// Merges by a heap of candidate pairs, lowest rank first and leftmost on ties. Entries whose
// symbols have changed since are recognised by their ids and skipped. n log n, so a megabyte of one
// character is fine.
void Bpe::merge(const std::vector<TokenId>& ids, std::vector<TokenId>& out) const {
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
  symbols.reserve(ids.size());
  for (const TokenId id : ids) {
    const auto index = static_cast<std::ptrdiff_t>(symbols.size());
    symbols.push_back({id, index - 1, index + 1});
  }
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

}  // namespace kvant::models
