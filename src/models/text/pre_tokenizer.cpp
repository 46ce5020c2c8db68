#include "models/text/pre_tokenizer.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/models/utf8.hpp"
#include "models/text/pattern.hpp"

namespace kvant::models {
namespace {

constexpr const char* kByteLevelPattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
constexpr const char* kDigit = "\\p{N}";
constexpr const char* kDigits = "\\p{N}+";
/// ASCII's, symbols among them, and Unicode's.
constexpr const char* kPunctuation = "[!-/:-@\\[-`{-~\\p{P}]";

std::string with_spaces(std::string text, const std::string& space) {
  std::string result;
  for (const char c : text) {
    if (c == ' ') {
      result += space;
    } else {
      result += c;
    }
  }
  return result;
}

}  // namespace

PreTokenizer::PreTokenizer(const nlohmann::json& json, const std::string& file) {
  if (json.is_null()) return;
  if (!json.is_object()) {
    throw Error(ErrorCode::unsupported, file + ": pre_tokenizer is not an object");
  }
  if (json.value("type", "") != "Sequence") {
    add_step(json, file);
    return;
  }
  const auto list = json.find("pretokenizers");
  if (list == json.end() || !list->is_array()) {
    throw Error(ErrorCode::invalid_file, file + ": pre_tokenizer: pretokenizers is not an array");
  }
  for (const nlohmann::json& step : *list) add_step(step, file);
}

void PreTokenizer::add_step(const nlohmann::json& json, const std::string& file) {
  const std::string type = json.is_object() ? json.value("type", "") : "";
  if (type == "Digits") {
    const bool individual = json.value("individual_digits", false);
    steps_.push_back({Regex(individual ? kDigit : kDigits)});
  } else if (type == "ByteLevel") {
    byte_level_ = true;
    steps_.push_back({Regex(to_pcre(kByteLevelPattern)), json.value("use_regex", true),
                      Match::piece, json.value("add_prefix_space", true) ? " " : ""});
  } else if (type == "Split") {
    add_split(json, file);
  } else if (type == "Metaspace") {
    add_metaspace(json, file);
  } else if (type == "WhitespaceSplit") {
    steps_.push_back({Regex(to_pcre("\\s+")), true, Match::removed});
  } else if (type == "BertPreTokenizer") {
    steps_.push_back({Regex(to_pcre("\\s+")), true, Match::removed});
    steps_.push_back({Regex(kPunctuation)});
  } else {
    throw Error(
        ErrorCode::unsupported,
        file + ": pre_tokenizer of type \"" + type.substr(0, 80) +
            "\": only Digits, Split, ByteLevel, Metaspace, WhitespaceSplit, BertPreTokenizer and "
            "Sequence are known here");
  }
}

void PreTokenizer::add_split(const nlohmann::json& json, const std::string& file) {
  const std::string behavior = json.value("behavior", "");
  Match match = Match::piece;
  if (behavior == "Removed") {
    match = Match::removed;
  } else if (behavior == "MergedWithNext") {
    match = Match::joins_next;
  } else if (behavior != "Isolated") {
    throw Error(ErrorCode::unsupported,
                file + ": pre_tokenizer Split with the behavior \"" + behavior.substr(0, 40) +
                    "\": only Isolated, Removed and MergedWithNext are known here");
  }
  // Inverted, the pattern tells pieces from what is between them; isolated, both are pieces anyway.
  if (json.value("invert", false) && match != Match::piece) {
    throw Error(ErrorCode::unsupported, file + ": an inverted Split that is not Isolated");
  }
  steps_.push_back({Regex(pattern_of(json, file)), true, match});
}

void PreTokenizer::add_metaspace(const nlohmann::json& json, const std::string& file) {
  space_ = json.value("replacement", "\u2581");
  const std::string scheme =
      json.value("prepend_scheme", json.value("add_prefix_space", true) ? "always" : "never");
  if (scheme != "always" && scheme != "first" && scheme != "never") {
    throw Error(ErrorCode::unsupported,
                file + ": Metaspace with the prepend_scheme \"" + scheme.substr(0, 40) + "\"");
  }
  Step step{Regex(space_)};
  step.split = json.value("split", true);
  step.match = Match::joins_next;
  if (scheme != "never") step.prefix = space_;
  step.only_beginning = scheme == "first";
  step.space = space_;
  steps_.push_back(std::move(step));
}

std::vector<std::string> PreTokenizer::split(std::string_view text, bool beginning) const {
  std::vector<std::string> stretches;
  if (!text.empty()) stretches.emplace_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string> next;
    bool first = beginning;
    for (std::string& stretch : stretches) {
      if (!step.space.empty()) stretch = with_spaces(std::move(stretch), step.space);
      if (!step.prefix.empty() && !stretch.starts_with(step.prefix) &&
          (first || !step.only_beginning)) {
        stretch.insert(0, step.prefix);
      }
      first = false;
      if (!step.split) {
        next.push_back(std::move(stretch));
        continue;
      }
      std::size_t done = 0;   // pieces before it are out
      std::size_t found = 0;  // where to look for the next match
      while (done < stretch.size()) {
        Regex::Match match{Regex::npos, 0};
        while (found < stretch.size()) {
          match = step.pattern.find(stretch, found);
          if (match.begin == Regex::npos || match.end > match.begin) break;
          // A match of nothing splits nothing.
          found = match.begin;
          if (found < stretch.size()) found += decode_utf8(stretch, found).length;
          match.begin = Regex::npos;
        }
        const std::size_t begin = match.begin == Regex::npos ? stretch.size() : match.begin;
        if (begin > done) next.push_back(stretch.substr(done, begin - done));
        if (begin == stretch.size()) break;
        if (step.match == Match::piece) next.push_back(stretch.substr(begin, match.end - begin));
        done = step.match == Match::joins_next ? begin : match.end;
        found = match.end;
      }
    }
    stretches = std::move(next);
  }
  return stretches;
}

}  // namespace kvant::models
