// A GGUF file's vocabulary as tokenizer.json.

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <tuple>
#include <unordered_map>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "models/load/gguf_model.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

[[noreturn]] void fail(const io::Gguf& file, ErrorCode code, const std::string& what) {
  throw Error(code, file.name() + ": " + what);
}

/// Types of tokens.
constexpr int kControl = 3;
constexpr int kUserDefined = 4;

constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

json byte_level(bool regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", regex}};
}

json split(const char* pattern) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}},
            byte_level(false)}}};
}

json digits() {
  return {{"type", "Sequence"},
          {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}}};
}

/// "tokenizer.ggml.pre": how text is split.
void add_splitting(const io::Gguf& file, json& result, bool& begins_with_bos) {
  const std::string_view pre = file.text("tokenizer.ggml.pre").value_or("gpt-2");
  // SmolLM's vocabulary has no token with a digit and anything else, so that splitting digits
  // apart, as its tokenizer.json does, changes spaces in front of a digit only; transformers, whose
  // figures for GGUF files ours are compared with, does not.
  if (pre == "gpt-2" || pre == "gpt2" || pre == "smollm") {
    result["pre_tokenizer"] = byte_level(true);
  } else if (pre == "starcoder" || pre == "refact" || pre == "command-r") {
    result["pre_tokenizer"] = digits();
  } else if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    result["pre_tokenizer"] = split(kLlama3);
    result["model"]["ignore_merges"] = true;
    begins_with_bos = true;
  } else if (pre == "qwen2") {
    result["pre_tokenizer"] = split(kQwen2);
    result["normalizer"] = {{"type", "NFC"}};
  } else {
    fail(file, ErrorCode::unsupported,
         "tokenizer.ggml.pre " + io::in_quotes(pre) +
             " is not one of gpt-2, smollm, starcoder, refact, command-r, llama-bpe, qwen2");
  }
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
  if (!scores || scores->size() != tokens.size()) {
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
  if (file.boolean("tokenizer.ggml.add_space_prefix").value_or(true)) {
    steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
  }
  steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}});
  result["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  result["decoder"] = {{"type", "Strip"}, {"content", " "}, {"start", 1}};
}

}  // namespace

json gguf_tokenizer(const io::Gguf& file) {
  const auto kind = file.text("tokenizer.ggml.model");
  const auto tokens = file.texts("tokenizer.ggml.tokens");
  if (!kind || !tokens) {
    fail(file, ErrorCode::invalid_file, "there is no tokenizer (tokenizer.ggml.tokens) in it");
  }
  if (*kind != "gpt2" && *kind != "llama") {
    fail(file, ErrorCode::unsupported,
         "tokenizer.ggml.model " + io::in_quotes(*kind) + " is not gpt2 or llama");
  }
  std::unordered_map<std::string_view, std::size_t> ids;
  json vocabulary = json::object();
  for (std::size_t id = 0; id < tokens->size(); ++id) {
    const std::string_view token = (*tokens)[id];
    // A table may hold bytes that are no text: nothing can be spelled with them.
    if (io::find_invalid_utf8(token) != token.size() || !ids.emplace(token, id).second) continue;
    vocabulary[std::string(token)] = id;
  }
  json result = {{"model", {{"type", "BPE"}, {"vocab", std::move(vocabulary)}}},
                 {"added_tokens", json::array()}};
  const auto types = file.numbers("tokenizer.ggml.token_type");
  for (std::size_t id = 0; types && id < types->size() && id < tokens->size(); ++id) {
    const int type = static_cast<int>((*types)[id]);
    if (type != kControl && type != kUserDefined) continue;
    const std::string_view token = (*tokens)[id];
    if (io::find_invalid_utf8(token) != token.size()) continue;
    result["added_tokens"].push_back(
        {{"id", id}, {"content", token}, {"special", type == kControl}});
  }
  bool begins_with_bos = *kind == "llama";
  if (*kind == "llama") {
    add_sentencepiece(file, result, ids, *tokens);
  } else {
    const auto merges = file.texts("tokenizer.ggml.merges");
    if (!merges) fail(file, ErrorCode::invalid_file, "tokenizer.ggml.merges is missing");
    json& list = result["model"]["merges"] = json::array();
    for (const std::string_view merge : *merges) {
      if (io::find_invalid_utf8(merge) == merge.size()) list.push_back(merge);
    }
    add_splitting(file, result, begins_with_bos);
  }
  const auto bos = file.integer("tokenizer.ggml.bos_token_id");
  if (bos && *bos >= 0 && file.boolean("tokenizer.ggml.add_bos_token").value_or(begins_with_bos)) {
    result["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "bos"}}}}, {{"Sequence", {{"id", "A"}}}}}},
        {"special_tokens", {{"bos", {{"ids", {*bos}}}}}}};
  }
  return result;
}

}  // namespace kvant::models
