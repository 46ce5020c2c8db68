#include "models/text/vocabulary_file.hpp"

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>

#include "io/json/json_tree.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "kvant/io/text_file.hpp"

namespace kvant::models {
namespace {

/// A token's spelling, alone or in an object.
std::string token_in(const nlohmann::json& config, const char* key, const char* fallback) {
  const auto it = config.find(key);
  if (it == config.end() || it->is_null()) return fallback;
  if (it->is_string()) return it->get<std::string>();
  return it->is_object() ? it->value("content", fallback) : fallback;
}

nlohmann::json read_vocabulary_lines(const std::filesystem::path& path) {
  const std::string text = io::read_text_file(path);
  if (io::find_invalid_utf8(text) != text.size()) {
    throw Error(ErrorCode::invalid_file, path.string() + ": not UTF-8 from byte " +
                                             std::to_string(io::find_invalid_utf8(text)) + " on");
  }
  nlohmann::json vocabulary = nlohmann::json::object();
  std::int64_t id = 0;
  for (std::size_t at = 0; at < text.size(); ++id) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    std::string_view line = std::string_view(text).substr(at, end - at);
    if (line.ends_with('\r')) line.remove_suffix(1);
    vocabulary[std::string(line)] = id;  // of two, the last one counts
    at = end + 1;
  }
  return vocabulary;
}

}  // namespace

nlohmann::json word_piece_tokenizer(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "vocab.txt";
  const std::filesystem::path config_path = folder / "tokenizer_config.json";
  std::error_code ignored;
  nlohmann::json config = nlohmann::json::object();
  if (std::filesystem::exists(config_path, ignored)) config = io::read_json_tree(config_path);
  if (!config.is_object()) {
    throw Error(ErrorCode::invalid_file, config_path.string() + ": not an object");
  }
  try {
    nlohmann::json vocabulary = read_vocabulary_lines(path);
    const std::string unknown = token_in(config, "unk_token", "[UNK]");
    const std::string begin = token_in(config, "cls_token", "[CLS]");
    const std::string end = token_in(config, "sep_token", "[SEP]");
    nlohmann::json added = nlohmann::json::array();
    for (const std::string& token : {unknown, begin, end, token_in(config, "pad_token", "[PAD]"),
                                     token_in(config, "mask_token", "[MASK]")}) {
      if (!vocabulary.contains(token)) continue;
      added.push_back({{"id", vocabulary[token]}, {"content", token}, {"special", true}});
    }
    for (const std::string& token : {begin, end}) {
      if (vocabulary.contains(token)) continue;
      throw Error(ErrorCode::invalid_file, path.string() + ": the token " + io::in_quotes(token) +
                                               ", which goes around a text, is not in it");
    }
    const bool lower = config.value("do_lower_case", true);
    const auto accents = config.find("strip_accents");
    return {{"added_tokens", std::move(added)},
            {"normalizer",
             {{"type", "BertNormalizer"},
              {"clean_text", true},
              {"handle_chinese_chars", config.value("tokenize_chinese_chars", true)},
              {"strip_accents", accents == config.end() ? nlohmann::json() : *accents},
              {"lowercase", lower}}},
            {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
            {"post_processor",
             {{"type", "BertProcessing"},
              {"cls", {begin, vocabulary[begin]}},
              {"sep", {end, vocabulary[end]}}}},
            {"decoder", {{"type", "WordPiece"}, {"prefix", "##"}, {"cleanup", true}}},
            {"model",
             {{"type", "WordPiece"},
              {"unk_token", unknown},
              {"continuing_subword_prefix", "##"},
              {"max_input_chars_per_word", 100},
              {"vocab", std::move(vocabulary)}}}};
  } catch (const nlohmann::json::exception& error) {
    throw Error(ErrorCode::invalid_file, config_path.string() + ": " + error.what());
  }
}

}  // namespace kvant::models
