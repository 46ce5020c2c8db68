#pragma once

// What the pages of reports are made of: a style, tables that sort when a heading is clicked,
// figures. A page needs nothing else.

#include <string>
#include <string_view>

namespace kvant::look {

/// Everything up to the heading. @param text_columns of its tables, from the left
[[nodiscard]] std::string page_start(std::string_view title, int text_columns);
/// The script and the end.
[[nodiscard]] std::string page_end();
/// A value that parseFloat of JavaScript reads back; infinities beyond every number.
[[nodiscard]] std::string sort_key(double value);
/// A cell of a table that sorts by `key`.
[[nodiscard]] std::string cell(std::string_view text, std::string_view key);
/// A number that stands out.
[[nodiscard]] std::string figure(std::string_view title, std::string_view value);

}  // namespace kvant::look
