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

KVANT_DEVICE bool is_flagged(const ListOutliersArgs& l, std::int64_t column) {
  bool flagged = false;
  for (std::int64_t task = 0; task < l.tasks; ++task) {
    flagged |= l.flags[task * l.cols + column] != 0;
  }
  return flagged;
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
    if (wide && c + 16 <= end) {
      const device::Words4 flags = *reinterpret_cast<const device::Words4*>(l.flags + c);
      if ((flags.w[0] | flags.w[1] | flags.w[2] | flags.w[3]) == 0) continue;
    }
    for (std::int64_t i = c; i < c + 16 && i < end; ++i) {
      if (!is_flagged(l, i)) continue;
      ++mine;
      if (l.tasks > 1) l.flags[i] = 1;  // the union of the tasks, whoever writes it
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
    if (mine > 0) {
      for (std::int64_t c = begin; c < end; ++c) {
        if (!is_flagged(l, c)) continue;
        if (at >= window && at < window + kListWindow) {
          shared->columns[at - window] = static_cast<int>(c);
          if (blockIdx.x == 0) l.columns[at] = c;
        }
        ++at;
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
