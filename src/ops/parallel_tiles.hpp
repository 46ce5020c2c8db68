#pragma once

// How every matrix product is cut: runs of row blocks whose activations stay in the caches, times
// panels of weights; a task is a run of neighbouring panels. K is never cut, so results do not
// depend on the number of threads.

#include <algorithm>
#include <cstdint>

#include "dispatch/cpu_features.hpp"
#include "kvant/context.hpp"
#include "kvant/kernel_table.hpp"
#include "ops/parallel.hpp"

namespace kvant::detail {

/// Calls multiply(args) with args' ranges set, for all row blocks and panels.
/// @param row_bytes   bytes of one row of activations
/// @param operations  estimate of the whole work
template <class Args, class Multiply>
void parallel_tiles(Context& context, const Args& args, std::int64_t panels, std::int64_t row_bytes,
                    std::int64_t operations, Multiply&& multiply) {
  const RowBlocks blocks{args.m, context.kernels().mr};
  const std::int64_t threads = context.executor().concurrency();
  const std::int64_t block_bytes = std::max<std::int64_t>(row_bytes * blocks.mr, 1);
  // The second-level cache belongs to the panel of weights in use and the one being fetched.
  // Activations pass by once for each panel, a few bytes per step: from the third level that costs
  // nothing, and a run that filled the second would push the weights out. A longer run means fewer
  // passes over the weights, as long as the third level holds it.
  std::int64_t run =
      std::max<std::int64_t>(1, 2 * static_cast<std::int64_t>(cache_sizes().l2) / block_bytes);
  if (panels < 4 * threads && threads > 1) {  // narrow: cut M finer, or threads have nothing to do
    run = std::min(run, std::max<std::int64_t>(1, blocks.count() * panels / (4 * threads)));
  }
  const std::int64_t runs = (blocks.count() + run - 1) / run;
  run = (blocks.count() + runs - 1) / runs;  // even, or a thread would get a short last run
  parallel(context, runs * panels, operations, [&](std::int64_t begin, std::int64_t end) {
    Args part = args;
    while (begin < end) {
      part.block_begin = begin / panels * run;
      part.block_end = std::min(blocks.count(), part.block_begin + run);
      part.panel_begin = begin % panels;
      part.panel_end = std::min(panels, part.panel_begin + (end - begin));
      multiply(part);
      begin += part.panel_end - part.panel_begin;
    }
  });
}

}  // namespace kvant::detail
