#pragma once

// Elements between the order of files, which is little-endian, and the machine's.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace kvant::test {

/// Turns each element of `size` bytes round where the machine is big-endian: both ways.
inline std::vector<std::byte> turned(std::span<const std::byte> bytes, std::size_t size) {
  std::vector<std::byte> result(bytes.begin(), bytes.end());
  if (std::endian::native == std::endian::little) return result;
  for (std::size_t at = 0; at + size <= result.size(); at += size) {
    std::reverse(result.begin() + static_cast<std::ptrdiff_t>(at),
                 result.begin() + static_cast<std::ptrdiff_t>(at + size));
  }
  return result;
}

}  // namespace kvant::test
