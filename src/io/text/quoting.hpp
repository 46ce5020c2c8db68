#pragma once

// Names and texts from files in messages.

#include <cstddef>
#include <string>
#include <string_view>

#include "kvant/config.hpp"

namespace kvant::io {

/// A name for a message: in quotes, control characters and invalid bytes escaped, long ones cut.
[[nodiscard]] KVANT_API std::string in_quotes(std::string_view name);

/// Index of the first byte that is not part of well-formed UTF-8; text.size() if there is none.
[[nodiscard]] KVANT_API std::size_t find_invalid_utf8(std::string_view text) noexcept;

/// What to say of a file that is a Git LFS pointer in place of the file itself; empty: it is none.
[[nodiscard]] std::string_view git_lfs_pointer(std::string_view text) noexcept;

}  // namespace kvant::io
