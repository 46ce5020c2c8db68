#pragma once

// Writing SVG and HTML: text is escaped, numbers do not depend on the locale.

#include <string>
#include <string_view>

namespace kvant::look {

/// For element content and quoted attributes; characters that XML 1.0 forbids become U+FFFD.
[[nodiscard]] std::string escape_markup(std::string_view text);

/// A coordinate: at most two decimals, never an exponent.
[[nodiscard]] std::string coordinate(double value);

/// The text in at most `width` characters, its middle replaced by "..." where it is longer.
[[nodiscard]] std::string shorten_middle(const std::string& text, std::size_t width);

/// The smallest number not below value that is a power of ten times 1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6
/// or 8, so that its quarters are short too; 1 for 0.
[[nodiscard]] double round_up_nicely(double value);

}  // namespace kvant::look
