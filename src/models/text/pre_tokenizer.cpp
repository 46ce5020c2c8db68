#include "models/text/pre_tokenizer.hpp"

#include <nlohmann/json.hpp>
#include <utility>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

// \s as Rust's and Oniguruma's: White_Space. PCRE2's own has U+180E in addition.
#define KVANT_SPACE                                                                  \
  "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}" \
  "\\x{202f}\\x{205f}\\x{3000}"

constexpr const char* kByteLevelPattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^" KVANT_SPACE "\\p{L}\\p{N}]+|[" KVANT_SPACE
    "]+(?![^" KVANT_SPACE "])|[" KVANT_SPACE "]+";
constexpr const char* kDigit = "\\p{N}";
constexpr const char* kDigits = "\\p{N}+";
#undef KVANT_SPACE

}  // namespace

PreTokenizer::PreTokenizer(const nlohmann::json& json, const std::string& file) {
  if (!json.is_object()) {
    throw Error(ErrorCode::unsupported,
                file + ": pre_tokenizer is " + (json.is_null() ? "null" : "not an object"));
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
    steps_.push_back({Regex(kByteLevelPattern), json.value("use_regex", true),
                      json.value("add_prefix_space", true)});
  } else {
    throw Error(ErrorCode::unsupported,
                file + ": pre_tokenizer of type \"" + type.substr(0, 80) +
                    "\": only Digits, ByteLevel and Sequence are known here");
  }
}

std::vector<std::string> PreTokenizer::split(std::string_view text) const {
  std::vector<std::string> stretches;
  if (!text.empty()) stretches.emplace_back(text);
  for (const Step& step : steps_) {
    std::vector<std::string> next;
    for (std::string& stretch : stretches) {
      if (step.add_prefix_space && stretch.front() != ' ') stretch.insert(0, 1, ' ');
      if (!step.split) {
        next.push_back(std::move(stretch));
        continue;
      }
      std::size_t done = 0;
      while (done < stretch.size()) {
        const Regex::Match match = step.pattern.find(stretch, done);
        const std::size_t begin = match.begin == Regex::npos ? stretch.size() : match.begin;
        if (begin > done) next.push_back(stretch.substr(done, begin - done));
        if (begin == stretch.size()) break;
        next.push_back(stretch.substr(begin, match.end - begin));
        done = match.end;
      }
    }
    stretches = std::move(next);
  }
  return stretches;
}

}  // namespace kvant::models
