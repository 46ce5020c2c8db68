#pragma once

// How every matrix product is cut: row blocks whose activations stay in the second-level cache,
// times panels of weights; a task is a run of neighbouring panels. K is never cut, so results do not
// depend on the number of threads.

#include <algorithm>
#include <cstdint>

#include "dispatch/cpu_features.hpp"
#include "kvant/context.hpp"
#include "kvant/kernel_table.hpp"
#include "ops/parallel.hpp"

namespace kvant::detail {

/// Calls multiply(args) with args' ranges set, for all m rows and panels.
/// @param row_bytes   bytes of one row of activations
/// @param operations  estimate of the whole work
template <class Args, class Multiply>
void parallel_tiles(Context& context, const Args& args, std::int64_t m, std::int64_t panels,
                    std::int64_t row_bytes, std::int64_t operations, Multiply&& multiply) {
  const std::int64_t threads = context.executor().concurrency();
  const std::int64_t mr = context.kernels().mr;
  const std::int64_t cached =
      static_cast<std::int64_t>(cache_sizes().l2) / 2 / std::max<std::int64_t>(row_bytes, 1);
  std::int64_t block = std::max(mr, cached / mr * mr);
  if (panels < 4 * threads && threads > 1) {  // narrow: cut M finer, or threads have nothing to do
    const std::int64_t even = (m * panels / (4 * threads) + mr - 1) / mr * mr;
    block = std::min(block, std::max(mr, even));
  }
  const std::int64_t blocks = (m + block - 1) / block;
  parallel(context, blocks * panels, operations, [&](std::int64_t begin, std::int64_t end) {
    Args part = args;
    while (begin < end) {
      const std::int64_t b = begin / panels;
      part.row_begin = b * block;
      part.row_end = std::min(m, part.row_begin + block);
      part.panel_begin = begin % panels;
      part.panel_end = std::min(panels, part.panel_begin + (end - begin));
      multiply(part);
      begin += part.panel_end - part.panel_begin;
    }
  });
}

}  // namespace kvant::detail
