#pragma once

// Base64 (RFC 4648), in which tokenizer.json holds bytes.

#include <optional>
#include <string>
#include <string_view>

namespace kvant::models {

[[nodiscard]] std::string to_base64(std::string_view bytes);
/// Nothing: the text is no base64, with its padding.
[[nodiscard]] std::optional<std::string> from_base64(std::string_view text);

}  // namespace kvant::models
