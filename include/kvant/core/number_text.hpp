#pragma once

/// @file
/// Numbers in error messages.

#include <charconv>
#include <string>

#include "kvant/config.hpp"

namespace kvant::detail {

/// A number for a message: short, whatever the locale.
inline std::string number_text(double value) {
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::general, 6).ptr;
  return {buffer, end};
}

}  // namespace kvant::detail
