#pragma once

// Where floats differ in their bits.

#include <cstring>
#include <string>
#include <vector>

namespace kvant::test {

/// The first element of `got` that is not that of `want`, bit for bit; empty when there is none.
inline std::string difference(const std::vector<float>& got, const std::vector<float>& want) {
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (std::memcmp(&got[i], &want[i], sizeof(float)) != 0) {
      return "element " + std::to_string(i) + " is " + std::to_string(got[i]) + ", not " +
             std::to_string(want[i]);
    }
  }
  return {};
}

}  // namespace kvant::test
