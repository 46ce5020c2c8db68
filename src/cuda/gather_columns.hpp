#pragma once

// The weights of found outlier features as floats, for callers that ask: the GEMMs here gather
// their own.

#include "cuda/elementwise.hpp"
#include "cuda/outliers.hpp"

namespace kvant {
namespace {

/// w of outputs [panel_begin, panel_end), [n][count] from output 0 on: a panel is an output.
KVANT_KERNEL(kElementThreads, 4)
gather_columns_kernel(KVANT_CONSTANT GemmArgs g, float* w) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  const std::int64_t count = g.epilogue.outliers.found.count;
  const std::int64_t begin = g.range.panel_begin * count, end = g.range.panel_end * count;
  for (std::int64_t i = begin + first_element(); i < end; i += element_step()) {
    w[i] = gathered_weight(g, i % count, i / count);
  }
}

inline void launch_gather_columns(const GemmArgs& g, float* w) {
  const std::int64_t count =
      g.epilogue.outliers.found.count * (g.range.panel_end - g.range.panel_begin);
  if (count == 0) return;
  device::launch(element_launch(count, g.queue), &gather_columns_kernel, g, w);
}

}  // namespace
}  // namespace kvant
