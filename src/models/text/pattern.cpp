#include "models/text/pattern.hpp"

#include <nlohmann/json.hpp>

#include "kvant/error.hpp"

namespace kvant::models {
namespace {

constexpr std::string_view kSpaces =
    "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
    "\\x{202f}\\x{205f}\\x{3000}";

std::string literal(std::string_view text) {
  std::string result;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    const bool word = byte >= 0x80 || (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') ||
                      (c >= 'a' && c <= 'z') || c == ' ' || c == '\n' || c == '\t';
    if (!word) result += '\\';
    result += c;
  }
  return result;
}

}  // namespace

std::string to_pcre(std::string_view pattern) {
  std::string result;
  bool in_class = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c != '\\' || i + 1 == pattern.size()) {
      if (c == '[') in_class = true;
      if (c == ']') in_class = false;
      result += c;
      continue;
    }
    const char next = pattern[++i];
    if (next == 's') {
      result.append(in_class ? "" : "[").append(kSpaces).append(in_class ? "" : "]");
    } else if (next == 'S' && !in_class) {
      result.append("[^").append(kSpaces).append("]");
    } else {
      result.append({c, next});
    }
  }
  return result;
}

std::string pattern_of(const nlohmann::json& json, const std::string& file) {
  const auto pattern = json.find("pattern");
  if (pattern != json.end() && pattern->is_object()) {
    const auto text = pattern->find("String");
    if (text != pattern->end() && text->is_string()) return literal(text->get<std::string>());
    const auto regex = pattern->find("Regex");
    if (regex != pattern->end() && regex->is_string()) return to_pcre(regex->get<std::string>());
  }
  throw Error(ErrorCode::invalid_file,
              file + ": " + json.value("type", "") + ": pattern is neither a String nor a Regex");
}

}  // namespace kvant::models
