#pragma once

/// @file
/// UTF-8: taking text apart, repairing it, and holding back the end of a stream.

#include <cstddef>
#include <string>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::models {

/// One code point of a text, and the bytes it takes.
struct Utf8Step {
  std::size_t length;  ///< bytes consumed: a character, or a maximal invalid part (at least 1)
  bool valid;
  bool incomplete;  ///< invalid only because the text ends inside the character
  char32_t code;    ///< U+FFFD if invalid
};

/// The character at text[at]; at < text.size().
[[nodiscard]] KVANT_API Utf8Step decode_utf8(std::string_view text, std::size_t at) noexcept;

/// A code point as UTF-8.
[[nodiscard]] KVANT_API std::string encode_utf8(char32_t code);

/// The text with each maximal invalid part replaced by U+FFFD, as Python's errors="replace" does.
[[nodiscard]] KVANT_API std::string repair_utf8(std::string_view text);

/// Turns a stream of bytes into a stream of whole characters: an incomplete character at the end is
/// held back until its rest arrives; invalid parts become U+FFFD.
class KVANT_API Utf8Stream {
 public:
  /// What can be shown after these bytes.
  std::string push(std::string_view bytes);
  /// The rest: what is still incomplete becomes U+FFFD.
  std::string finish();

 private:
  std::string held_;
};

}  // namespace kvant::models
