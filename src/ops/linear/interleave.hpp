#pragma once

// Rows side by side, a few bytes of each in turn: the order of activations in RowBlocks and of
// weights in panels.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kvant::detail {

/// Interleaves four rows, four groups (of 4 bytes) at a time: a transposition of 4 x 4 words.
/// @return how many groups are done; fewer than four are left
inline std::int64_t interleave_four_rows(const std::byte* from, std::ptrdiff_t stride,
                                         std::int64_t groups, std::byte* to,
                                         std::ptrdiff_t step) noexcept {
  using Words [[gnu::vector_size(16)]] = std::int32_t;
  std::int64_t g = 0;
  for (; g + 4 <= groups; g += 4) {
    Words row[4];
    for (int r = 0; r < 4; ++r) std::memcpy(&row[r], from + r * stride + g * 4, sizeof(Words));
    const Words low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    const Words low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    const Words high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    const Words high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    const Words group[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                            __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                            __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                            __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
    for (int i = 0; i < 4; ++i) std::memcpy(to + (g + i) * step, &group[i], sizeof(Words));
  }
  return g;
}

/// to[g * step + r * group] = the group of bytes g of row r.
/// @param rows    they follow each other at `stride`
/// @param groups  of a row
inline void interleave_rows(const std::byte* from, std::ptrdiff_t stride, std::int64_t rows,
                            std::int64_t groups, std::int32_t group, std::byte* to,
                            std::ptrdiff_t step) noexcept {
  std::int64_t done = 0;
  if (group == 4 && rows >= 4) {
    for (std::int64_t r = 0; r < rows; r += 4) {
      const std::int64_t first = std::min(r, rows - 4);  // the last four may overlap those before
      done = interleave_four_rows(from + first * stride, stride, groups, to + first * 4, step);
    }
  }
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t g = done; g < groups; ++g) {
      std::byte* at = to + g * step + r * group;
      const std::byte* bytes = from + r * stride + g * group;
      if (group == 4) {  // of the sizes that kernels use a copy is one move
        std::memcpy(at, bytes, 4);
      } else if (group == 8) {
        std::memcpy(at, bytes, 8);
      } else if (group == 64) {
        std::memcpy(at, bytes, 64);
      } else {
        std::memcpy(at, bytes, static_cast<std::size_t>(group));
      }
    }
  }
}

}  // namespace kvant::detail
