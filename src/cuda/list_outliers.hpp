#pragma once

// The outliers of a call: flags of columns to an ascending list and its length, on the device and
// without a word to the host. Each block makes the whole list by itself (it is a few KiB of flags),
// then clears the codes of its part of the rows.

#include "cuda/block_reduce.hpp"
#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

inline constexpr int kListThreads = 256;
inline constexpr int kListRows = 32;      ///< rows of a block's step
inline constexpr int kListWindow = 1024;  ///< entries of the list in shared memory at a time

struct ListShared {
  int counts[kListThreads];
  int columns[kListWindow];
};

/// Sums over the threads before this one.
KVANT_DEVICE int sum_before(int* counts, int mine) {
  const auto thread = static_cast<int>(threadIdx.x);
  counts[thread] = mine;
  for (int step = 1; step < kListThreads; step *= 2) {
    device::block_barrier();
    const int before = thread >= step ? counts[thread - step] : 0;
    device::block_barrier();
    counts[thread] += before;
  }
  return counts[thread] - mine;
}

/// The flags of columns [c, c + 16), as far as there are columns: a bit each. All loads are on
/// their way at once.
KVANT_DEVICE std::uint32_t flags_at(const ListOutliersArgs& l, std::int64_t c, bool wide) {
  std::uint32_t mask = 0;
  if (wide && c + 16 <= l.cols) {
    const device::Words4 flags = *reinterpret_cast<const device::Words4*>(l.flags + c);
#pragma unroll
    for (int i = 0; i < 4; ++i) {  // bytes 0 or 1: the product brings them side by side
      mask |= ((flags.w[i] & 0x01010101u) * 0x01020408u >> 24 & 15u) << (4 * i);
    }
    return mask;
  }
  for (std::int64_t task = 0; task < l.tasks; ++task) {
#pragma unroll
    for (int i = 0; i < 16; ++i) {
      const bool flagged = c + i < l.cols && l.flags[task * l.cols + c + i] != 0;
      mask |= (flagged ? 1u : 0u) << i;
    }
  }
  return mask;
}

/// Where a row's code of a column is (RowBlocks; with mr 1, as here, rows are plain rows).
KVANT_DEVICE std::int64_t code_at(const ListOutliersArgs& l, std::int64_t row,
                                  std::int64_t column) {
  const RowBlocks& blocks = l.blocks;
  if (blocks.mr == 1) return row * l.k_padded + column;
  const std::int64_t count = (blocks.m + blocks.mr - 1) / blocks.mr;
  std::int64_t b = row * count / blocks.m;
  while (blocks.m * (b + 1) / count <= row) ++b;
  const std::int64_t first = blocks.m * b / count, rows = blocks.m * (b + 1) / count - first;
  return first * l.k_padded + column / blocks.group * rows * blocks.group +
         (row - first) * blocks.group + column % blocks.group;
}

KVANT_KERNEL(kListThreads, 4) list_outliers_kernel(KVANT_CONSTANT ListOutliersArgs l) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  auto* const shared = reinterpret_cast<ListShared*>(device::shared_memory());
  const auto thread = static_cast<int>(threadIdx.x);
  // A thread's columns are neighbours, so that places in the list follow the threads: 16 at a time,
  // which are mostly all zero.
  const std::int64_t each = ((l.cols + kListThreads - 1) / kListThreads + 15) / 16 * 16;
  const std::int64_t begin = thread * each < l.cols ? thread * each : l.cols;
  const std::int64_t end = begin + each < l.cols ? begin + each : l.cols;
  const bool wide = l.tasks == 1 && reinterpret_cast<std::uintptr_t>(l.flags) % 16 == 0;
  int mine = 0;
  for (std::int64_t c = begin; c < end; c += 16) {
    const std::uint32_t mask = flags_at(l, c, wide);
    mine += device::count_bits(mask);
    for (int i = 0; l.tasks > 1 && i < 16; ++i) {  // the union of the tasks, whoever writes it
      if ((mask >> i & 1u) != 0) l.flags[c + i] = 1;
    }
  }
  const auto total = static_cast<int>(block_reduce<kListThreads>(
      static_cast<std::uint32_t>(mine), [](std::uint32_t a, std::uint32_t b) { return a + b; }));
  if (blockIdx.x == 0 && thread == 0) *l.count = total;
  if (total == 0) return;
  const int first = sum_before(shared->counts, mine);
  for (int window = 0; window < total; window += kListWindow) {
    device::block_barrier();
    int at = first;
    for (std::int64_t c = begin; mine > 0 && c < end; c += 16) {
      for (std::uint32_t mask = flags_at(l, c, wide); mask != 0; mask &= mask - 1, ++at) {
        if (at < window || at >= window + kListWindow) continue;
        const auto column = static_cast<int>(c) + device::lowest_bit(mask);
        shared->columns[at - window] = column;
        if (blockIdx.x == 0) l.columns[at] = column;
      }
    }
    device::block_barrier();
    if (l.codes == nullptr) continue;
    const int entries = total - window < kListWindow ? total - window : kListWindow;
    for (std::int64_t row0 = std::int64_t{blockIdx.x} * kListRows; row0 < l.blocks.m;
         row0 += std::int64_t{gridDim.x} * kListRows) {
      const std::int64_t left = l.blocks.m - row0;
      const int rows = left < kListRows ? static_cast<int>(left) : kListRows;
      for (int i = thread; i < entries * rows; i += kListThreads) {
        const std::int64_t code = code_at(l, row0 + i % rows, shared->columns[i / rows]);
        static_cast<std::uint8_t*>(l.codes)[code] =
            l.format == ActivationFormat::u8_offset ? std::uint8_t{128} : std::uint8_t{0};
      }
    }
  }
}

inline void launch_list_outliers(const ListOutliersArgs& l) {
  device::launch({.grid = {l.codes == nullptr ? 1 : blocks_for(l.blocks.m, kListRows, 264), 1, 1},
                  .threads = kListThreads,
                  .shared_bytes = sizeof(ListShared),
                  .queue = l.queue},
                 &list_outliers_kernel, l);
}

}  // namespace
}  // namespace kvant
