#pragma once

// Scale and zero point of one group: the rule that all methods share.

#include <cstdint>

#include "kvant/methods/group_codes.hpp"

namespace kvant::methods {

struct GroupRange {
  float scale = 1.0f;
  std::int32_t zero = 0;

  /// The nearest code.
  [[nodiscard]] std::int32_t code(double w, int highest) const noexcept;
  [[nodiscard]] double value(std::int32_t c) const noexcept {
    return static_cast<double>(c - zero) * static_cast<double>(scale);
  }
};

/// Of weights [first, first + count * step).
[[nodiscard]] GroupRange range_of(const double* w, std::int64_t count, std::int64_t step,
                                  const GroupScheme& scheme, RangeSearch search) noexcept;

/// @throws Error invalid_argument
void check_scheme(const char* who, const GroupScheme& scheme);

/// @throws Error not_finite, which names the element
void check_finite(const char* who, MatrixView<const float> w);

}  // namespace kvant::methods
