#pragma once

// Weights as floats: those of found outlier features for callers that ask (the GEMMs here gather
// their own), and all of them, for products in float.

#include "cuda/elementwise.hpp"
#include "cuda/outliers.hpp"

namespace kvant {
namespace {

/// w of outputs [panel_begin, panel_end), [n][count] from output 0 on: a panel is an output.
template <class Weights>
KVANT_KERNEL(kElementThreads, 4)
gather_columns_kernel(KVANT_CONSTANT GemmArgs g, float* w) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  const std::int64_t count = g.epilogue.outliers.found.count;
  const std::int64_t begin = g.range.panel_begin * count, end = g.range.panel_end * count;
  for (std::int64_t i = begin + first_element(); i < end; i += element_step()) {
    const std::int64_t column = g.columns.columns[i % count];
    w[i] = Weights::value(g, Weights::load(g, i / count, column));
  }
}

template <class Weights>
void launch_gather_columns(const GemmArgs& g, float* w) {
  const std::int64_t count =
      g.epilogue.outliers.found.count * (g.range.panel_end - g.range.panel_begin);
  if (count == 0) return;
  device::launch(element_launch(count, g.queue), &gather_columns_kernel<Weights>, g, w);
}

/// w[output - panel_begin][range.k_padded] of `outputs` outputs from range.panel_begin on.
template <class Weights>
KVANT_KERNEL(kElementThreads, 4)
widen_kernel(KVANT_CONSTANT GemmArgs g, std::int64_t outputs, float* w) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  const std::int64_t columns = g.range.k_padded;
  for (std::int64_t i = first_element(); i < outputs * columns; i += element_step()) {
    const std::int64_t n = g.range.panel_begin + i / columns;
    w[i] = Weights::value(g, Weights::load(g, n, i % columns));
  }
}

template <class Weights>
void launch_widen(const GemmArgs& g, float* w) {
  const std::int64_t range = g.range.panel_end - g.range.panel_begin;
  const std::int64_t outputs = range > 1 ? range : 1;
  if (g.range.k_padded == 0) return;
  device::launch(element_launch(outputs * g.range.k_padded, g.queue), &widen_kernel<Weights>, g,
                 outputs, w);
}

}  // namespace
}  // namespace kvant
