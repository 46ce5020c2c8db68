#include "look/markup.hpp"

#include <array>
#include <charconv>
#include <cmath>

#include "io/text/quoting.hpp"
#include "look/text_table.hpp"

namespace kvant::look {

std::string escape_markup(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string result;
  while (!text.empty()) {
    const std::size_t good = io::find_invalid_utf8(text);
    for (const char c : text.substr(0, good)) {
      const auto byte = static_cast<unsigned char>(c);
      if (c == '&') {
        result += "&amp;";
      } else if (c == '<') {
        result += "&lt;";
      } else if (c == '>') {
        result += "&gt;";
      } else if (c == '"') {
        result += "&quot;";
      } else if (byte < 0x20 && c != '\t' && c != '\n') {
        result += kReplacement;
      } else {
        result += c;
      }
    }
    if (good == text.size()) break;
    result += kReplacement;
    text.remove_prefix(good + 1);
  }
  return result;
}

std::string coordinate(double value) {
  if (!std::isfinite(value)) value = 0;
  std::array<char, 400> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::fixed, 2)
                       .ptr;
  std::string text(buffer.data(), end);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

std::string shorten_middle(const std::string& text, std::size_t width) {
  if (display_width(text) <= width) return text;
  // Cut between characters: skip continuation bytes.
  const auto at = [&](std::size_t characters) {
    std::size_t i = 0;
    for (; i < text.size(); ++i) {
      if ((static_cast<unsigned char>(text[i]) & 0xC0) == 0x80) continue;
      if (characters-- == 0) break;
    }
    return i;
  };
  const std::size_t total = display_width(text);
  const std::size_t head = (width - 3) / 2;
  const std::size_t tail = width - 3 - head;
  return text.substr(0, at(head)) + "..." + text.substr(at(total - tail));
}

double round_up_nicely(double value) {
  if (!(value > 0) || !std::isfinite(value)) return 1;
  const double power = std::pow(10, std::floor(std::log10(value)));
  for (const double step : {1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0}) {
    if (step * power >= value) return step * power;
  }
  return 10 * power;
}

}  // namespace kvant::look
