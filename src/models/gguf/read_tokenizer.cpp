// A GGUF file's vocabulary as tokenizer.json.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>
#include <tuple>
#include <unordered_map>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "models/gguf/gguf_model.hpp"
#include "models/gguf/pre_tokenizers.hpp"
#include "models/gguf/token_types.hpp"
#include "models/gguf/unigram_tokens.hpp"
#include "models/gguf/word_pieces.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const io::Gguf& file, ErrorCode code, const std::string& what) {
  throw Error(code, file.name() + ": " + what);
}

/// SentencePiece's vocabulary has scores in place of merges: the best one is joined first.
json merges_by_score(const std::unordered_map<std::string_view, std::size_t>& ids,
                     const std::vector<std::string_view>& tokens,
                     const std::vector<double>& scores) {
  using Merge = std::tuple<double, std::string_view, std::string_view>;
  std::vector<Merge> merges;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const std::string_view token = tokens[id];
    for (std::size_t cut = 1; cut < token.size() && token.size() < 256; ++cut) {
      if (ids.contains(token.substr(0, cut)) && ids.contains(token.substr(cut))) {
        merges.emplace_back(scores[id], token.substr(0, cut), token.substr(cut));
      }
    }
  }
  std::stable_sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    const auto key = [](const Merge& m) {
      return std::tuple(-std::get<0>(m), -static_cast<std::ptrdiff_t>(std::get<1>(m).size()),
                        -static_cast<std::ptrdiff_t>(std::get<2>(m).size()));
    };
    return key(a) < key(b);
  });
  json result = json::array();
  for (const auto& [score, left, right] : merges) result.push_back({left, right});
  return result;
}

void add_sentencepiece(const io::Gguf& file, json& result,
                       const std::unordered_map<std::string_view, std::size_t>& ids,
                       const std::vector<std::string_view>& tokens) {
  const auto scores = file.numbers("tokenizer.ggml.scores");
  if (!scores || scores->size() != tokens.size() ||
      std::any_of(scores->begin(), scores->end(), [](double s) { return std::isnan(s); })) {
    fail(file, ErrorCode::invalid_file, "tokenizer.ggml.scores is not a number for each token");
  }
  json& model = result["model"];
  model["merges"] = merges_by_score(ids, tokens, *scores);
  model["byte_fallback"] = true;
  model["fuse_unk"] = true;
  const auto unknown = file.integer("tokenizer.ggml.unknown_token_id");
  if (unknown && *unknown >= 0 && *unknown < static_cast<std::int64_t>(tokens.size())) {
    model["unk_token"] = tokens[static_cast<std::size_t>(*unknown)];
  }
  json steps = json::array();
  const bool prefix = file.boolean("tokenizer.ggml.add_space_prefix").value_or(true);
  if (prefix) {
    steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
  }
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
  result["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  json decoders = {
      {{"type", "Replace"}, {"pattern", {{"String", "\u2581"}}}, {"content", " "}},
      {{"type", "ByteFallback"}},
      {{"type", "Fuse"}},
  };
  if (prefix) {
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  result["decoder"] = {{"type", "Sequence"}, {"decoders", std::move(decoders)}};
}

/// A token that the file names, or nothing.
std::optional<std::int64_t> named_token(const io::Gguf& file, const char* key,
                                        const std::vector<std::string_view>& tokens) {
  const auto id = file.integer(key);
  if (!id || *id < 0 || *id >= static_cast<std::int64_t>(tokens.size())) return std::nullopt;
  return id;
}

/// bos before a text and eos behind it, where the file says so.
void add_post_processor(const io::Gguf& file, const std::vector<std::string_view>& tokens,
                        bool bos_first, bool eos_last, json& result) {
  const auto bos = named_token(file, "tokenizer.ggml.bos_token_id", tokens);
  const auto eos = named_token(file, "tokenizer.ggml.eos_token_id", tokens);
  const bool first = bos && file.boolean("tokenizer.ggml.add_bos_token").value_or(bos_first);
  const bool last = eos && file.boolean("tokenizer.ggml.add_eos_token").value_or(eos_last);
  if (!first && !last) return;
  json special = json::object();
  const auto step = [&](std::int64_t id) -> json {
    const std::string_view spelling = tokens[static_cast<std::size_t>(id)];
    const std::string token =
        io::find_invalid_utf8(spelling) == spelling.size() ? std::string(spelling) : "token";
    special[token] = {{"id", token}, {"ids", {id}}, {"tokens", {token}}};
    return {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
  };
  const auto sequence = [](const char* name, int type) -> json {
    return {{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  json single = json::array();
  json pair = json::array();
  if (first) single.push_back(step(*bos));
  single.push_back(sequence("A", 0));
  if (last) single.push_back(step(*eos));
  pair = single;
  if (first) pair.push_back(step(*bos));
  pair.push_back(sequence("B", 1));
  if (last) pair.push_back(step(*eos));
  result["post_processor"] = {{"type", "TemplateProcessing"},
                              {"single", std::move(single)},
                              {"pair", std::move(pair)},
                              {"special_tokens", std::move(special)}};
}

}  // namespace

json gguf_tokenizer(const io::Gguf& file) {
  const auto kind = file.text("tokenizer.ggml.model");
  auto tokens = file.texts("tokenizer.ggml.tokens");
  if (!kind || !tokens) {
    fail(file, ErrorCode::invalid_file, "there is no tokenizer (tokenizer.ggml.tokens) in it");
  }
  if (*kind != "gpt2" && *kind != "llama" && *kind != "t5" && *kind != "bert") {
    fail(file, ErrorCode::unsupported,
         "tokenizer.ggml.model " + io::in_quotes(*kind) + " is not gpt2, llama, t5 or bert");
  }
  std::vector<std::string> word_pieces;  // which the tokens point to, if there are any
  if (*kind == "bert") {
    word_pieces = word_pieces_in(file, *tokens);
    tokens->assign(word_pieces.begin(), word_pieces.end());
  }
  std::unordered_map<std::string_view, std::size_t> ids;
  json vocabulary = json::object();
  for (std::size_t id = 0; id < tokens->size(); ++id) {
    const std::string_view token = (*tokens)[id];
    // A table may hold bytes that are no text: nothing can be spelled with them.
    if (io::find_invalid_utf8(token) != token.size() || !ids.emplace(token, id).second) continue;
    vocabulary[std::string(token)] = id;
  }
  // Complete, because the tokenizers library refuses what leaves a member out.
  json result = {{"version", "1.0"},
                 {"truncation", nullptr},
                 {"padding", nullptr},
                 {"added_tokens", json::array()},
                 {"normalizer", nullptr},
                 {"pre_tokenizer", nullptr},
                 {"post_processor", nullptr},
                 {"decoder", nullptr},
                 {"model",
                  {{"type", "BPE"},
                   {"dropout", nullptr},
                   {"unk_token", nullptr},
                   {"continuing_subword_prefix", nullptr},
                   {"end_of_word_suffix", nullptr},
                   {"fuse_unk", false},
                   {"byte_fallback", false},
                   {"ignore_merges", false},
                   {"vocab", std::move(vocabulary)}}}};
  const auto types = file.numbers("tokenizer.ggml.token_type");
  for (std::size_t id = 0; types && id < types->size() && id < tokens->size(); ++id) {
    const double type = (*types)[id];
    if (type != kControlToken && type != kUserDefinedToken && type != kUnknownToken) continue;
    const std::string_view token = (*tokens)[id];
    if (io::find_invalid_utf8(token) != token.size()) continue;
    result["added_tokens"].push_back({{"id", id},
                                      {"content", token},
                                      {"single_word", false},
                                      {"lstrip", false},
                                      {"rstrip", false},
                                      {"normalized", false},
                                      {"special", type != kUserDefinedToken}});
  }
  const std::string_view pre = file.text("tokenizer.ggml.pre").value_or("gpt-2");
  const bool bos_first = *kind == "llama" || (*kind == "gpt2" && begins_with_bos(pre));
  if (*kind == "llama") {
    add_sentencepiece(file, result, ids, *tokens);
  } else if (*kind == "t5") {
    read_gguf_unigram(file, *tokens, result);
  } else if (*kind == "bert") {
    read_gguf_word_pieces(file, *tokens, result);
    return result;
  } else {
    const auto merges = file.texts("tokenizer.ggml.merges");
    if (!merges) fail(file, ErrorCode::invalid_file, "tokenizer.ggml.merges is missing");
    json& list = result["model"]["merges"] = json::array();
    for (const std::string_view merge : *merges) {
      if (io::find_invalid_utf8(merge) == merge.size()) list.push_back(merge);
    }
    if (!apply_gguf_pre_tokenizer(pre, result)) {
      fail(file, ErrorCode::unsupported,
           "tokenizer.ggml.pre " + io::in_quotes(pre) + " is not one of " +
               std::string(kGgufPreTokenizers));
    }
    result["decoder"] = {{"type", "ByteLevel"},
                         {"add_prefix_space", false},
                         {"trim_offsets", true},
                         {"use_regex", true}};
  }
  add_post_processor(file, *tokens, bos_first, *kind == "t5", result);
  return result;
}

}  // namespace kvant::models
