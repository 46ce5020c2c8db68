#pragma once

// What BERT's tokenizer does to text before it is split.

#include <string>
#include <string_view>

namespace kvant::models {

// Valid UTF-8 in and out, each.

/// Without controls, formats and private characters; white space becomes spaces.
[[nodiscard]] std::string clean_text(std::string_view text);
/// A space on both sides of each CJK ideograph.
[[nodiscard]] std::string space_ideographs(std::string_view text);
/// Without combining marks that take no space.
[[nodiscard]] std::string without_marks(std::string_view text);
/// Each character in lower case, whatever its neighbours.
[[nodiscard]] std::string lowercase(std::string_view text);

/// Unicode's White_Space.
[[nodiscard]] bool is_white_space(char32_t code) noexcept;

}  // namespace kvant::models
