#pragma once

// Activations in the order of the register tile (kernel_table.hpp, RowBlocks).

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kvant/context.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::detail {

/// Pieces of workspace begin at cache lines.
inline constexpr std::int64_t kCacheLine = 64;
constexpr std::int64_t align_up(std::int64_t bytes) noexcept {
  return (bytes + kCacheLine - 1) / kCacheLine * kCacheLine;
}

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

/// Interleaves the rows of one block, 4 bytes of each in turn.
/// @param groups  4-byte groups of a row
inline void interleave_rows(const std::byte* from, std::ptrdiff_t stride, std::int32_t rows,
                            std::int64_t groups, std::byte* to) noexcept {
  const std::ptrdiff_t step = std::ptrdiff_t{rows} * 4;
  std::int64_t done = 0;
  for (std::int32_t r = 0; r < rows && rows >= 4; r += 4) {
    const std::int32_t first = std::min(r, rows - 4);  // the last four may overlap those before
    done = interleave_four_rows(from + first * stride, stride, groups, to + first * 4, step);
  }
  for (std::int32_t r = 0; r < rows; ++r) {
    for (std::int64_t g = done; g < groups; ++g) {
      std::memcpy(to + g * step + r * 4, from + r * stride + g * 4, 4);
    }
  }
}

/// The way of a GEMM's rows into RowBlocks order: tasks of neighbouring blocks, each with scratch
/// for the plain rows of one block.
struct RowBlockTasks {
  RowBlocks blocks;
  std::int64_t row_bytes;
  std::int64_t count;  ///< of tasks

  RowBlockTasks(Context& context, std::int64_t m, std::int64_t bytes_of_row)
      : blocks{m, context.kernels().mr},
        row_bytes(bytes_of_row),
        count(std::max<std::int64_t>(
            1, std::min<std::int64_t>(blocks.count(), context.executor().concurrency()))) {}

  /// Rows of exactly 4096 bytes would all fall into the same cache sets.
  [[nodiscard]] std::int64_t scratch_stride() const noexcept { return row_bytes + kCacheLine; }
  [[nodiscard]] std::int64_t scratch_bytes() const noexcept {  ///< of one task
    return align_up(blocks.mr * scratch_stride());
  }
  [[nodiscard]] std::int64_t activation_bytes() const noexcept {  ///< of the result
    return align_up(blocks.m * row_bytes + kActivationSlack);
  }

  /// The blocks of one task: write_rows(first, rows, plain) leaves the rows of a block at `plain`,
  /// scratch_stride() bytes apart; they are then interleaved into their place in `to`.
  template <class WriteRows>
  void fill(std::int64_t task, std::byte* scratch, std::byte* to, WriteRows&& write_rows) const {
    const std::int64_t last = blocks.count() * (task + 1) / count;
    for (std::int64_t b = blocks.count() * task / count; b < last; ++b) {
      const std::int64_t first = blocks.first(b);
      const std::int32_t rows = blocks.rows(b);
      std::byte* block = to + first * row_bytes;
      std::byte* plain = rows == 1 ? block : scratch;
      write_rows(first, rows, plain);
      if (rows > 1) interleave_rows(plain, scratch_stride(), rows, row_bytes / 4, block);
    }
  }
};

/// Where the 1-byte code of column k of row r of a block stands, from the block's start.
constexpr std::int64_t code_offset(std::int32_t rows, std::int32_t r, std::int64_t k) noexcept {
  return (k / 4) * rows * 4 + std::int64_t{r} * 4 + k % 4;
}

}  // namespace kvant::detail
