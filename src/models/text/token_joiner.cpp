#include "models/text/token_joiner.hpp"

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

namespace kvant::models {
namespace {

/// As the reference does it, token by token, in this order.
std::string cleaned(std::string text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {
      {{" .", "."},
       {" ?", "?"},
       {" !", "!"},
       {" ,", ","},
       {" ' ", "'"},
       {" n't", "n't"},
       {" 'm", "'m"},
       {" do not", " don't"},
       {" 's", "'s"},
       {" 've", "'ve"},
       {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
      text.replace(at, from.size(), to);
    }
  }
  return text;
}

}  // namespace

TokenJoiner::TokenJoiner(const nlohmann::json& json) {
  if (json.is_object()) add(json);
}

void TokenJoiner::add(const nlohmann::json& json) {
  const std::string type = json.value("type", "");
  if (type == "Sequence") {
    const auto list = json.find("decoders");
    if (list == json.end()) return;
    for (const nlohmann::json& step : *list) {
      if (step.value("type", "") != "Sequence") add(step);
    }
  } else if (type == "Strip") {
    strips_space_ =
        strips_space_ || (json.value("content", "") == " " && json.value("start", 0) > 0);
  } else if (type == "Metaspace") {
    first_has_no_spaces_ =
        json.value("prepend_scheme", "always") != "never" && json.value("add_prefix_space", true);
  } else if (type == "WordPiece") {
    continues_ = json.value("prefix", "##");
    cleans_up_ = json.value("cleanup", true);
  }
}

std::string TokenJoiner::text_of(const Token& token, bool first) const {
  std::string text = token.bytes;
  if (first && first_has_no_spaces_ && !token.added) std::erase(text, ' ');
  if (continues_) {
    if (!first) {
      if (text.starts_with(*continues_)) {
        text.erase(0, continues_->size());
      } else {
        text.insert(0, 1, ' ');
      }
    }
    if (cleans_up_) text = cleaned(std::move(text));
  }
  return text;
}

std::string TokenJoiner::finish(std::string text) const {
  if (strips_space_ && text.starts_with(' ')) text.erase(0, 1);
  return text;
}

}  // namespace kvant::models
