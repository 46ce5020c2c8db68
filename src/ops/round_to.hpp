#pragma once

// Small scalar helpers of the linear quantizers.

#include <charconv>
#include <string>

#include "kvant/dtype.hpp"

namespace kvant::detail {

/// value as it comes back from float32, float16 or bfloat16.
inline float round_to(DType type, float value) noexcept {
  switch (type) {
    case DType::float16:
      return static_cast<float>(float16(value));
    case DType::bfloat16:
      return static_cast<float>(bfloat16(value));
    default:
      return value;
  }
}

/// A number for a message: short, whatever the locale.
inline std::string number_text(double value) {
  char buffer[32];
  const auto end =
      std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::general, 6).ptr;
  return {buffer, end};
}

}  // namespace kvant::detail
