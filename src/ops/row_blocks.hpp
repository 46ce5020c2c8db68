#pragma once

// Activations in the order of the register tile (kernel_table.hpp, RowBlocks).

#include <cstdint>
#include <cstring>

#include "kvant/kernel_table.hpp"

namespace kvant::detail {

/// Interleaves the rows of one block, 4 bytes of each in turn.
/// @param groups  4-byte groups of a row
inline void interleave_rows(const std::byte* from, std::ptrdiff_t stride, std::int32_t rows,
                            std::int64_t groups, std::byte* to) noexcept {
  for (std::int32_t r = 0; r < rows; ++r) {
    const std::byte* row = from + r * stride;
    std::byte* at = to + std::int64_t{r} * 4;
    for (std::int64_t g = 0; g < groups; ++g) {
      std::memcpy(at + g * rows * 4, row + g * 4, 4);
    }
  }
}

/// Where the 1-byte code of column k of row r of a block stands, from the block's start.
constexpr std::int64_t code_offset(std::int32_t rows, std::int32_t r, std::int64_t k) noexcept {
  return (k / 4) * rows * 4 + std::int64_t{r} * 4 + k % 4;
}

}  // namespace kvant::detail
