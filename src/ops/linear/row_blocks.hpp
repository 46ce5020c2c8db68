#pragma once

// The way of a GEMM's rows into RowBlocks order: tasks of neighbouring blocks, each with scratch
// for the plain rows of one block.

#include <algorithm>
#include <cstdint>

#include "kvant/context.hpp"
#include "kvant/kernel_table.hpp"
#include "ops/linear/interleave.hpp"
#include "ops/support/arena.hpp"

namespace kvant::detail {

/// int8 codes as the kernels read them: as they are, or + 128.
inline void store_codes(ActivationFormat format, const std::int8_t* from, std::int64_t count,
                        std::byte* to) noexcept {
  const auto zero = static_cast<unsigned char>(format == ActivationFormat::u8_offset ? 128 : 0);
  auto* bytes = reinterpret_cast<unsigned char*>(to);
  for (std::int64_t i = 0; i < count; ++i) {
    bytes[i] = static_cast<unsigned char>(static_cast<unsigned char>(from[i]) ^ zero);
  }
}
/// The same for codes of zero.
inline void store_zeros(ActivationFormat format, std::int64_t count, std::byte* to) noexcept {
  std::fill_n(
      to, count,
      std::byte{format == ActivationFormat::u8_offset ? std::uint8_t{128} : std::uint8_t{0}});
}

struct RowBlockTasks {
  RowBlocks blocks;
  std::int64_t row_bytes;
  std::int64_t count;  ///< of tasks

  RowBlockTasks(const Context& context, const GemmKernels& kernels, std::int64_t m,
                std::int64_t k_padded)
      : blocks(kernels.blocks(m)),
        row_bytes(k_padded * element_bytes(kernels.activations)),
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

  /// The blocks of one task: write_rows(first, rows, plain, stride) leaves rows at `plain`,
  /// `stride` bytes apart; those of a block are then interleaved into their place in `to`.
  template <class WriteRows>
  void fill(std::int64_t task, std::byte* scratch, std::byte* to, WriteRows&& write_rows) const {
    const std::int64_t last = blocks.count() * (task + 1) / count;
    if (blocks.mr == 1) {  // plain rows, in one go
      const std::int64_t first = blocks.count() * task / count;
      write_rows(first, static_cast<std::int32_t>(last - first), to + first * row_bytes, row_bytes);
      return;
    }
    for (std::int64_t b = blocks.count() * task / count; b < last; ++b) {
      const std::int64_t first = blocks.first(b);
      const std::int32_t rows = blocks.rows(b);
      std::byte* block = to + first * row_bytes;
      std::byte* plain = rows == 1 ? block : scratch;
      write_rows(first, rows, plain, scratch_stride());
      if (rows > 1) {
        interleave_rows(plain, scratch_stride(), rows, row_bytes / blocks.group, blocks.group,
                        block, std::ptrdiff_t{rows} * blocks.group);
      }
    }
  }
};

}  // namespace kvant::detail
