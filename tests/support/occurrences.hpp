#pragma once

// How often a text is in another.

#include <cstddef>
#include <string>

namespace kvant::test {

inline std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t result = 0;
  for (std::size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++result;
  }
  return result;
}

}  // namespace kvant::test
