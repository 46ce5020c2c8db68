#pragma once

// What golden files of models hold, and how large it is.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "kvant/io/safetensors.hpp"
#include "kvant/models/generate.hpp"

namespace kvant::test {

inline std::vector<models::TokenId> ids_in(const io::SafeTensors& file, const char* name) {
  const auto values = file.values<std::int64_t>(name);
  return {values.begin(), values.end()};
}

/// The largest |value|.
inline double largest(const std::vector<float>& values) {
  double result = 0;
  for (const float v : values) result = std::max(result, std::fabs(static_cast<double>(v)));
  return result;
}

}  // namespace kvant::test
