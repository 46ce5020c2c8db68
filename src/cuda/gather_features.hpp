#pragma once

// Columns of x as floats, feature by feature (GatherFeaturesArgs).

#include "cuda/elementwise.hpp"

namespace kvant {
namespace {

KVANT_KERNEL(kElementThreads, 4) gather_features_kernel(KVANT_CONSTANT GatherFeaturesArgs a) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  for (std::int64_t i = first_element(); i < a.count * a.x.rows; i += element_step()) {
    const std::int64_t j = i / a.x.rows, r = i % a.x.rows;
    const float value = load_float(a.x.data, a.x.dtype, r * a.x.stride + a.columns[j]);
    const bool outlying = a.threshold == 0.0f || absolute(value) >= a.threshold;
    a.to[i] = outlying ? value : 0.0f;
  }
}

inline void launch_gather_features(const GatherFeaturesArgs& a) {
  const std::int64_t elements = a.count * a.x.rows;
  if (elements > 0) device::launch(element_launch(elements, a.queue), &gather_features_kernel, a);
}

}  // namespace
}  // namespace kvant
