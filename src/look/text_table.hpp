#pragma once

// Plain text for people: aligned tables, numbers with units, names that are safe to print.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace kvant::look {

enum class Align : std::uint8_t { left, right };

/// Columns as wide as their widest cell, two blanks between them.
class TextTable {
 public:
  struct Column {
    std::string title;
    Align align = Align::left;
  };
  explicit TextTable(std::vector<Column> columns) : columns_(std::move(columns)) {}
  /// Missing cells are empty.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }
  /// A line of dashes before the next row.
  void rule() { rules_.push_back(rows_.size()); }
  [[nodiscard]] std::string text(std::string_view indent = "") const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
  std::vector<std::size_t> rules_;
};

/// "980 B", "12.3 KB", "4.00 GB": decimal units.
[[nodiscard]] std::string bytes_text(std::uint64_t bytes);
/// With digits significant places: "0.00123", "1.2e-07", "inf", "nan".
[[nodiscard]] std::string number_text(double value, int digits);
/// "[2, 3]"; of more than eight dimensions the first eight.
[[nodiscard]] std::string shape_text(const std::vector<std::uint64_t>& shape);
/// "34.1"; "exact" for +inf.
[[nodiscard]] std::string decibel_text(double db);
/// A tensor's name: control characters escaped, cut where it is longer than any real name.
[[nodiscard]] std::string shown_name(std::string_view name);
/// Characters that a terminal shows, counted as code points.
[[nodiscard]] std::size_t display_width(std::string_view text) noexcept;
/// "1 tensor", "3 tensors"
[[nodiscard]] std::string counted(std::uint64_t count, std::string_view noun);

}  // namespace kvant::look
