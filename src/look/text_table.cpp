#include "look/text_table.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "io/text/quoting.hpp"

namespace kvant::look {

std::size_t display_width(std::string_view text) noexcept {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
    return (static_cast<unsigned char>(c) & 0xC0) != 0x80;  // not a continuation byte
  }));
}

std::string TextTable::text(std::string_view indent) const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    std::size_t width = display_width(columns_[c].title);
    for (const auto& row : rows_) {
      if (c < row.size()) width = std::max(width, display_width(row[c]));
    }
    widths.push_back(width);
  }
  std::string out;
  const auto line = [&](const auto& cell) {
    std::string result(indent);
    for (std::size_t c = 0; c < columns_.size(); ++c) {
      const std::string text = cell(c);
      const std::string blanks(widths[c] - display_width(text), ' ');
      if (c > 0) result += "  ";
      result += columns_[c].align == Align::left ? text + blanks : blanks + text;
    }
    result.erase(result.find_last_not_of(' ') + 1);
    out += result + "\n";
  };
  line([&](std::size_t c) { return columns_[c].title; });
  const auto dashes = [&] { line([&](std::size_t c) { return std::string(widths[c], '-'); }); };
  dashes();
  for (std::size_t r = 0; r < rows_.size(); ++r) {
    if (r > 0 && std::find(rules_.begin(), rules_.end(), r) != rules_.end()) dashes();
    line([&](std::size_t c) { return c < rows_[r].size() ? rows_[r][c] : std::string(); });
  }
  return out;
}

std::string number_text(double value, int digits) {
  if (std::isnan(value)) return "nan";
  std::array<char, 40> buffer{};
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::general, digits)
                       .ptr;
  return {buffer.data(), end};
}

std::string decibel_text(double db) {
  if (std::isnan(db)) return "nan";
  if (std::isinf(db)) return db > 0 ? "exact" : "-inf";
  std::array<char, 400> buffer{};
  const auto end =
      std::to_chars(buffer.data(), buffer.data() + buffer.size(), db, std::chars_format::fixed, 1)
          .ptr;
  return {buffer.data(), end};
}

std::string bytes_text(std::uint64_t bytes) {
  if (bytes < 1000) return std::to_string(bytes) + " B";
  constexpr std::array kUnits{"KB", "MB", "GB", "TB", "PB", "EB"};
  double value = static_cast<double>(bytes) / 1000;
  std::size_t unit = 0;
  while (value >= 999.5 && unit + 1 < kUnits.size()) {
    value /= 1000;
    ++unit;
  }
  std::array<char, 40> buffer{};
  const int places = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
  const auto end = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                 std::chars_format::fixed, places)
                       .ptr;
  return std::string(buffer.data(), end) + " " + kUnits[unit];
}

std::string shown_name(std::string_view name) {
  const std::string quoted = io::in_quotes(name);
  const bool plain = !name.empty() && quoted.size() == name.size() + 2;
  return plain ? std::string(name) : quoted;  // quotes show where something was escaped or cut
}

std::string counted(std::uint64_t count, std::string_view noun) {
  return std::to_string(count) + " " + std::string(noun) + (count == 1 ? "" : "s");
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  constexpr std::size_t kShown = 8;
  std::string text = "[";
  for (std::size_t i = 0; i < std::min(shape.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + (shape.size() > kShown ? ", ...]" : "]");
}

}  // namespace kvant::look
