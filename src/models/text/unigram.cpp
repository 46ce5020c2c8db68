#include "models/text/unigram.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/models/utf8.hpp"

namespace kvant::models {
namespace {

/// An unknown character scores so much less than the worst token.
constexpr double kUnknownPenalty = 10.0;

[[noreturn]] void invalid(const std::string& file, const std::string& what) {
  throw Error(ErrorCode::invalid_file, file + ": " + what);
}

}  // namespace

Unigram::Unigram(const nlohmann::json& model, const std::string& file) {
  read_vocabulary(model, file);
  byte_fallback_ = model.value("byte_fallback", false);
  for (unsigned b = 0; b < 256; ++b) byte_ids_[b] = find_token(vocabulary_, byte_token(b));
  const auto unknown = model.find("unk_id");
  if (unknown == model.end() || unknown->is_null()) return;
  const std::int64_t id = unknown->is_number_integer() ? unknown->get<std::int64_t>() : -1;
  if (id < 0 || id >= static_cast<std::int64_t>(scores_.size())) {
    invalid(file, "model.unk_id is " + unknown->dump().substr(0, 40) + ", the vocabulary has " +
                      std::to_string(scores_.size()) + " tokens");
  }
  unknown_ = static_cast<TokenId>(id);
}

void Unigram::read_vocabulary(const nlohmann::json& model, const std::string& file) {
  const auto list = model.find("vocab");
  if (list == model.end() || !list->is_array() ||
      list->size() > static_cast<std::size_t>(kMaxTokenId)) {
    invalid(file, "model.vocab is not a list of at most " + std::to_string(kMaxTokenId) +
                      " tokens and their scores");
  }
  double least = std::numeric_limits<double>::infinity();
  for (const nlohmann::json& each : *list) {
    const bool pair =
        each.is_array() && each.size() == 2 && each[0].is_string() && each[1].is_number();
    const double score = pair ? each[1].get<double>() : 0;
    if (!pair || !std::isfinite(score)) {
      invalid(file, "model.vocab[" + std::to_string(scores_.size()) + "] is " +
                        each.dump().substr(0, 60) + ", not a token and its score");
    }
    // Of tokens that stand there twice, the last one counts.
    vocabulary_[each[0].get<std::string>()] = static_cast<TokenId>(scores_.size());
    scores_.push_back(score);
    least = std::min(least, score);
  }
  unknown_score_ = least - kUnknownPenalty;
  sorted_.reserve(vocabulary_.size());
  for (const auto& [token, id] : vocabulary_) {
    if (!token.empty()) sorted_.push_back({token, id});
  }
  std::sort(sorted_.begin(), sorted_.end(),
            [](const Entry& a, const Entry& b) { return a.token < b.token; });
}

void Unigram::add_unknown(std::string_view text, std::vector<TokenId>& out) const {
  const auto id_of = [&](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
  if (byte_fallback_ &&
      std::all_of(text.begin(), text.end(), [&](char c) { return id_of(c) >= 0; })) {
    for (const char c : text) out.push_back(id_of(c));
  } else if (unknown_ >= 0) {
    out.push_back(unknown_);
  }
}

void Unigram::encode(std::string_view piece, std::vector<TokenId>& out) const {
  std::vector<Step> best(piece.size() + 1);
  best[0].begin = 0;
  for (std::size_t at = 0; at < piece.size();) {
    const std::size_t character = decode_utf8(piece, at).length;
    const double so_far = best[at].score;
    const auto reach = [&](std::size_t length, double score, TokenId id) {
      Step& step = best[at + length];
      if (step.begin >= 0 && so_far + score <= step.score) return;
      step = {so_far + score, static_cast<std::int64_t>(at), id};
    };
    // The tokens that the rest begins with: those between first and last agree with it so far.
    bool known = false;
    auto first = sorted_.begin();
    auto last = sorted_.end();
    for (std::size_t length = 0; at + length < piece.size() && first != last; ++length) {
      const auto byte = static_cast<unsigned char>(piece[at + length]);
      const auto byte_of = [length](const Entry& entry) {
        return entry.token.size() <= length
                   ? -1
                   : static_cast<int>(static_cast<unsigned char>(entry.token[length]));
      };
      first = std::lower_bound(first, last, byte,
                               [&](const Entry& e, int value) { return byte_of(e) < value; });
      last = std::upper_bound(first, last, byte,
                              [&](int value, const Entry& e) { return value < byte_of(e); });
      if (first == last || first->token.size() != length + 1) continue;
      reach(length + 1, scores_[static_cast<std::size_t>(first->id)], first->id);
      known = known || length + 1 == character;
    }
    if (!known) reach(character, unknown_score_, -1);
    at += character;
  }

  // From the end back; unknown characters that follow each other are one.
  std::vector<std::pair<std::string_view, TokenId>> tokens;
  for (std::size_t end = piece.size(); end > 0;) {
    const Step& step = best[end];
    const auto begin = static_cast<std::size_t>(step.begin);
    // The unknown token itself, spelled in the text, is no different.
    const TokenId id = step.id == unknown_ ? -1 : step.id;
    if (id < 0 && unknown_ >= 0 && !tokens.empty() && tokens.back().second < 0) {
      const std::string_view later = tokens.back().first;
      tokens.back().first = piece.substr(begin, end - begin + later.size());
    } else {
      tokens.emplace_back(piece.substr(begin, end - begin), id);
    }
    end = begin;
  }
  for (auto it = tokens.rbegin(); it != tokens.rend(); ++it) {
    if (it->second >= 0) {
      out.push_back(it->second);
    } else {
      const TokenId spelled = find_token(vocabulary_, std::string(it->first));
      if (spelled >= 0) {
        out.push_back(spelled);
      } else {
        add_unknown(it->first, out);
      }
    }
  }
}

}  // namespace kvant::models
