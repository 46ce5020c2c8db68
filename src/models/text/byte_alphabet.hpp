#pragma once

// The alphabet in which byte-level BPE spells bytes.

#include <array>
#include <string>
#include <string_view>

namespace kvant::models {

/// Printable bytes are themselves, the other 68 become U+0100, U+0101, ... in increasing order.
[[nodiscard]] const std::array<char32_t, 256>& byte_alphabet();

/// Bytes spelled in the alphabet.
[[nodiscard]] std::string to_alphabet(std::string_view bytes);

/// Bytes of a token spelled in the alphabet; a token with any other character stands for itself.
[[nodiscard]] std::string from_alphabet(const std::string& token);

}  // namespace kvant::models
