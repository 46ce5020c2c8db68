#include "models/gguf/unigram_tokens.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "models/gguf/token_types.hpp"
#include "models/text/base64.hpp"
#include "models/text/subword.hpp"

namespace kvant::models {
namespace {

using nlohmann::json;

constexpr const char* kScores = "tokenizer.ggml.scores";
constexpr const char* kUnknown = "tokenizer.ggml.unknown_token_id";
constexpr const char* kCharsmap = "tokenizer.ggml.precompiled_charsmap";
constexpr const char* kPrefix = "tokenizer.ggml.add_space_prefix";
constexpr const char* kSingle = "tokenizer.ggml.remove_extra_whitespaces";

[[noreturn]] void fail(const io::Gguf& file, const std::string& what) {
  throw Error(ErrorCode::invalid_file, file.name() + ": " + what);
}

/// The bytes of a list of numbers.
std::string bytes_in(const io::Gguf& file, const char* key) {
  const auto values = file.numbers(key);
  std::string bytes;
  if (!values) return bytes;
  for (const double value : *values) {
    if (!(value >= -128 && value <= 255)) {
      fail(file, std::string(key) + " holds " + std::to_string(value) + ", which is no byte");
    }
    bytes += static_cast<char>(static_cast<unsigned char>(static_cast<int>(value) & 0xFF));
  }
  return bytes;
}

/// A score for each token. How unlikely an unknown character is follows from the least of them,
/// and what converters give tokens that no text is made of must not count.
std::vector<double> scores_in(const io::Gguf& file, std::size_t count) {
  auto scores = file.numbers(kScores);
  if (!scores || scores->size() != count) {
    fail(file, std::string(kScores) + " is not a number for each token");
  }
  const auto types = file.numbers("tokenizer.ggml.token_type");
  if (!types || types->size() != count) return std::move(*scores);
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t id = 0; id < count; ++id) {
    if ((*types)[id] == kNormalToken) least = std::min(least, (*scores)[id]);
  }
  for (std::size_t id = 0; id < count; ++id) {
    if ((*types)[id] != kNormalToken && (*scores)[id] < least) {
      (*scores)[id] = least == std::numeric_limits<double>::infinity() ? 0.0 : least;
    }
  }
  return std::move(*scores);
}

/// What SentencePiece does with a text before it is split.
struct Spaces {
  std::string charsmap = {};
  bool prefix = true;  ///< a text gets a space in front
  bool single = true;  ///< runs of spaces become one, those at the ends none
};

json steps_of(const json& part, const char* list) {
  if (part.is_null()) return json::array();
  return part.value("type", "") == "Sequence" ? part.value(list, json::array())
                                              : json::array({part});
}

/// When a Metaspace puts a space in front.
std::string prefix_scheme(const json& metaspace) {
  const bool adds = metaspace.value("add_prefix_space", true);
  return metaspace.value("prepend_scheme", adds ? "always" : "never");
}

/// Nothing: text is normalized or split in another way than SentencePiece's.
std::optional<Spaces> spaces_of(const json& tokenizer) {
  Spaces result;
  json splits = steps_of(tokenizer.value("pre_tokenizer", json()), "pretokenizers");
  const bool by_white_space =
      splits.size() == 2 && splits[0].value("type", "") == "WhitespaceSplit";
  if (by_white_space) splits.erase(0);
  if (splits.size() != 1 || splits[0].value("type", "") != "Metaspace" ||
      !splits[0].value("split", true) ||
      splits[0].value("replacement", std::string(kMetaspace)) != kMetaspace) {
    return std::nullopt;
  }
  const std::string scheme = prefix_scheme(splits[0]);
  if (scheme != "always" && scheme != "never") return std::nullopt;
  result.prefix = scheme == "always";
  if (by_white_space && !result.prefix) return std::nullopt;

  json steps = steps_of(tokenizer.value("normalizer", json()), "normalizers");
  if (!steps.empty() && steps[0].value("type", "") == "Precompiled") {
    const auto bytes = from_base64(steps[0].value("precompiled_charsmap", ""));
    if (!bytes) return std::nullopt;
    result.charsmap = *bytes;
    steps.erase(0);
  }
  result.single = by_white_space;
  if (steps.empty()) return result;
  // What transformers makes of SentencePiece's remove_extra_whitespaces: the end, then runs. With
  // a space in front of every text, those at the beginning are a run.
  const json runs = {{"Regex", " {2,}"}};
  if (steps.size() != 2 || steps[0].value("type", "") != "Strip" ||
      !steps[0].value("strip_right", true) ||
      !(steps[0].value("strip_left", true) || result.prefix) ||
      steps[1].value("type", "") != "Replace" || steps[1].value("pattern", json()) != runs) {
    return std::nullopt;
  }
  const std::string one = steps[1].value("content", "");
  if (one != " " && one != kMetaspace) return std::nullopt;
  result.single = true;
  return result;
}

bool is_byte(const json& token) {
  const auto& spelling = token.get_ref<const std::string&>();
  return spelling.size() == 6 && spelling.starts_with("<0x") && spelling[5] == '>';
}

}  // namespace

void read_gguf_unigram(const io::Gguf& file, const std::vector<std::string_view>& tokens,
                       json& tokenizer) {
  const std::vector<double> scores = scores_in(file, tokens.size());
  json vocabulary = json::array();
  bool has_bytes = false;
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    const bool text = io::find_invalid_utf8(tokens[id]) == tokens[id].size();
    vocabulary.push_back({text ? std::string(tokens[id]) : std::string(), scores[id]});
    has_bytes = has_bytes || tokens[id] == "<0x00>";
  }
  json unknown;
  const auto unknown_id = file.integer(kUnknown);
  if (unknown_id && *unknown_id >= 0 && *unknown_id < static_cast<std::int64_t>(tokens.size())) {
    unknown = *unknown_id;
  }
  tokenizer["model"] = {{"type", "Unigram"},
                        {"unk_id", unknown},
                        {"vocab", std::move(vocabulary)},
                        {"byte_fallback", has_bytes}};
  json steps = json::array();
  const std::string charsmap = bytes_in(file, kCharsmap);
  if (!charsmap.empty()) {
    steps.push_back({{"type", "Precompiled"}, {"precompiled_charsmap", to_base64(charsmap)}});
  }
  const bool prefix = file.boolean(kPrefix).value_or(true);
  const bool single = file.boolean(kSingle).value_or(true);
  if (single && !prefix) {
    steps.push_back({{"type", "Strip"}, {"strip_left", true}, {"strip_right", true}});
    steps.push_back({{"type", "Replace"}, {"pattern", {{"Regex", " {2,}"}}}, {"content", " "}});
  }
  tokenizer["normalizer"] = {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
  const json spaces = {{"type", "Metaspace"},
                       {"replacement", kMetaspace},
                       {"prepend_scheme", prefix ? "always" : "never"},
                       {"split", true}};
  tokenizer["pre_tokenizer"] = spaces;
  if (single && prefix) {  // a sign for every run of spaces, as T5's tokenizer.json has it
    tokenizer["pre_tokenizer"] = {{"type", "Sequence"},
                                  {"pretokenizers", {{{"type", "WhitespaceSplit"}}, spaces}}};
  }
  tokenizer["decoder"] = spaces;
}

std::string write_gguf_unigram(const json& tokenizer, std::vector<std::int32_t>& types,
                               io::GgufWriter& writer) {
  const std::optional<Spaces> spaces = spaces_of(tokenizer);
  if (!spaces) return "text is normalized or split in a way (normalizer, pre_tokenizer)";
  const json decoder = tokenizer.value("decoder", json());
  if (!decoder.is_object() || decoder.value("type", "") != "Metaspace" ||
      (prefix_scheme(decoder) != "never") != spaces->prefix) {
    return "tokens are joined in a way (decoder)";
  }
  const json& model = tokenizer.at("model");
  const json& vocabulary = model.at("vocab");
  const bool any_byte = std::any_of(vocabulary.begin(), vocabulary.end(),
                                    [](const json& each) { return is_byte(each.at(0)); });
  if (any_byte && !model.value("byte_fallback", false)) {
    return "it has tokens for bytes that spell none (byte_fallback false)";
  }
  // Converters give tokens that no text is made of such scores, and llama.cpp counts on it.
  constexpr float kUnusedScore = -10000.0f;
  std::vector<float> scores;
  for (std::size_t id = 0; id < types.size(); ++id) {
    scores.push_back(types[id] == kUnusedToken ? kUnusedScore : 0.0f);
    if (id < vocabulary.size()) scores[id] = vocabulary[id].at(1).get<float>();
  }
  const json unknown = model.value("unk_id", json());
  if (unknown.is_number_integer() && unknown.get<std::size_t>() < types.size()) {
    types[unknown.get<std::size_t>()] = kUnknownToken;
    writer.set(kUnknown, unknown.get<std::uint32_t>());
  }
  writer.set("tokenizer.ggml.model", "t5");
  writer.set("tokenizer.ggml.pre", "default");
  writer.set(kScores, std::move(scores));
  writer.set(kPrefix, spaces->prefix);
  writer.set(kSingle, spaces->single);
  if (!spaces->charsmap.empty()) {
    writer.set(kCharsmap,
               std::vector<std::uint8_t>(spaces->charsmap.begin(), spaces->charsmap.end()));
  }
  return {};
}

}  // namespace kvant::models
