#pragma once

// What the operating system refused, as an Error that says what to do about it.

#include <filesystem>
#include <string>

namespace kvant::io {

/// "No space left on device; free some space, ...": the system's words, then advice where there is
/// any.
[[nodiscard]] std::string os_error_text(int code);

/// @throws Error io: "PATH: cannot write: REASON"
[[noreturn]] void throw_os_error(const std::string& path, const char* what, int code);

}  // namespace kvant::io
