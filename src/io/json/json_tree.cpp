#include "io/json/json_tree.hpp"

#include <array>
#include <string_view>

#include "io/file/file_bytes.hpp"
#include "io/json/json_sax.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr std::array<std::string_view, 3> kNonNumbers = {"NaN", "-Infinity", "Infinity"};
/// What a string that stands for one of them begins with, as JSON writes it. A file with a NUL in a
/// string cannot also have such numbers.
constexpr std::string_view kMark = "\\u0000";

/// The word at this place, or nothing.
std::string_view non_number_at(std::string_view text, std::size_t at) {
  for (const std::string_view word : kNonNumbers) {
    if (text.substr(at, word.size()) == word) return word;
  }
  return {};
}

/// NaN and the infinities outside of strings become strings.
std::string quote_non_numbers(std::string_view text, const std::string& name) {
  if (text.find(kMark) != std::string_view::npos) {
    throw FormatError(FormatErrorKind::json,
                      name + ": holds a NUL in a string beside NaN or Infinity");
  }
  std::string result;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      result.append(text, i, 2);
      i += 2;
      continue;
    }
    if (c == '"') in_string = !in_string;
    const std::string_view word = in_string ? std::string_view() : non_number_at(text, i);
    if (word.empty()) {
      result += c;
      ++i;
    } else {
      result.append("\"").append(kMark).append(word).append("\"");
      i += word.size();
    }
  }
  return result;
}

template <class Json>
Json parse_tree(std::span<const std::byte> bytes, const std::string& name) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  // Nearly all files have no such number, and are not copied.
  bool plain = true;
  for (const std::string_view word : kNonNumbers) {
    plain = plain && text.find(word) == std::string_view::npos;
  }
  const std::string quoted = plain ? std::string() : quote_non_numbers(text, name);
  const std::string_view json = plain ? text : std::string_view(quoted);
  check_json_object(std::as_bytes(std::span(json)), name);
  return Json::parse(json.begin(), json.end());
}

}  // namespace

nlohmann::json parse_json_tree(std::span<const std::byte> text, const std::string& name) {
  return parse_tree<nlohmann::json>(text, name);
}

nlohmann::ordered_json parse_ordered_tree(std::span<const std::byte> text,
                                          const std::string& name) {
  return parse_tree<nlohmann::ordered_json>(text, name);
}

nlohmann::json read_json_tree(const std::filesystem::path& path, std::uint64_t limit) {
  const FileBytes file = FileBytes::read(path, limit);
  return parse_json_tree(file.bytes(), path.string());
}

std::string python_text(const nlohmann::ordered_json& json) {
  std::string text = json.dump(2, ' ', true) + "\n";
  for (const std::string_view word : kNonNumbers) {
    const std::string quoted = "\"" + std::string(kMark) + std::string(word) + "\"";
    for (std::size_t at = text.find(quoted); at != std::string::npos; at = text.find(quoted, at)) {
      text.replace(at, quoted.size(), word);
    }
  }
  return text;
}

}  // namespace kvant::io
