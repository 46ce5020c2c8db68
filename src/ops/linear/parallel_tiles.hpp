#pragma once

// How every matrix product is cut: runs of row blocks whose activations stay in the caches, times
// panels of weights; a task is a run of neighbouring panels. K is never cut, so results do not
// depend on the number of threads.

#include <algorithm>
#include <cstdint>

#include "dispatch/cpu_features.hpp"
#include "kvant/context.hpp"
#include "kvant/kernel_table.hpp"
#include "ops/support/parallel.hpp"

namespace kvant::detail {

/// Row blocks of a product, by all panels.
/// @param args        its range has the row blocks; no end: all. The panels are set here
/// @param panels      of the weights
/// @param operations  estimate of the whole work
inline void parallel_tiles(Context& context, const GemmArgs& args, const GemmKernels& kernels,
                           std::int64_t panels, std::int64_t operations) {
  const RowBlocks blocks = kernels.blocks(args.range.m);
  if (context.memory() != nullptr) {  // a device cuts and shares out by itself
    GemmArgs whole = args;
    if (whole.range.block_end == 0) whole.range.block_end = blocks.count();
    whole.range.panel_end = panels;
    whole.queue = context.queue();
    kernels.gemm(whole);
    return;
  }
  const std::int64_t first = args.range.block_begin;
  const std::int64_t last = args.range.block_end == 0 ? blocks.count() : args.range.block_end;
  const std::int64_t count = last - first;
  const std::int64_t threads = context.executor().concurrency();
  const std::int64_t row_bytes = args.range.k_padded * element_bytes(kernels.activations);
  const std::int64_t block_bytes = std::max<std::int64_t>(row_bytes * blocks.mr, 1);
  // The second-level cache belongs to the panel of weights in use and the one being fetched.
  // Activations pass by once for each panel, a few bytes per step: from the third level that costs
  // nothing, and a run that filled the second would push the weights out. A longer run means fewer
  // passes over the weights, as long as the third level holds it: twice the second level is little
  // enough for what a core has there, whatever the processor reports.
  std::int64_t run = std::max<std::int64_t>(1, 2 * l2_bytes() / block_bytes);
  if (panels < 4 * threads && threads > 1) {  // narrow: cut M finer, or threads have nothing to do
    run = std::min(run, std::max<std::int64_t>(1, count * panels / (4 * threads)));
  }
  const std::int64_t runs = (count + run - 1) / run;
  run = (count + runs - 1) / runs;  // even, or a thread would get a short last run
  parallel(context, runs * panels, operations, [&](std::int64_t begin, std::int64_t end) {
    GemmArgs part = args;
    TileRange& range = part.range;
    while (begin < end) {
      range.block_begin = first + begin / panels * run;
      range.block_end = std::min(last, range.block_begin + run);
      range.panel_begin = begin % panels;
      range.panel_end = std::min(panels, range.panel_begin + (end - begin));
      kernels.gemm(part);
      begin += range.panel_end - range.panel_begin;
    }
  });
}

}  // namespace kvant::detail
