#pragma once

// Pages that need nothing else: their style, figures, and tables that sort when a heading is
// clicked.

#include <string>
#include <string_view>

namespace kvant::look {

/// Up to the heading, which is the title.
/// @param style         <style> of the page's own, as it is
/// @param text_columns  of its tables, from the left: the others are numbers
[[nodiscard]] std::string page_start(std::string_view title, std::string_view style = {},
                                     int text_columns = 4);
/// The script that sorts the page's tables, and the end.
[[nodiscard]] std::string page_end();

/// A value that parseFloat of JavaScript reads back; infinities beyond every number.
[[nodiscard]] std::string sort_key(double value);
/// <td>, sorted by `key`.
[[nodiscard]] std::string cell(std::string_view text, std::string_view key);
/// A number with its title, for a <div class="figures">.
[[nodiscard]] std::string figure(std::string_view title, std::string_view value);

}  // namespace kvant::look
