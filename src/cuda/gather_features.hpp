#pragma once

// Columns of x as floats, feature by feature (GatherFeaturesArgs); how many there are may be known
// to the device alone.

#include "cuda/elementwise.hpp"

namespace kvant {
namespace {

/// @param count_at  where the number of columns is; null: a.count. At most a.count are gathered.
KVANT_KERNEL(kElementThreads, 4)
gather_features_kernel(KVANT_CONSTANT GatherFeaturesArgs a, const std::int64_t* count_at) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  std::int64_t count = a.count;
  if (count_at != nullptr && *count_at < count) count = *count_at;
  for (std::int64_t i = first_element(); i < count * a.x.rows; i += element_step()) {
    const std::int64_t j = i / a.x.rows, r = i % a.x.rows;
    const float value = load_float(a.x.data, a.x.dtype, r * a.x.stride + a.columns[j]);
    const bool outlying = a.threshold == 0.0f || absolute(value) >= a.threshold;
    a.to[i] = outlying ? value : 0.0f;
  }
}

inline void launch_gather_features(const GatherFeaturesArgs& a, const std::int64_t* count_at,
                                   void* queue) {
  if (a.count * a.x.rows == 0) return;
  device::Launch l = element_launch(a.count * a.x.rows, queue);
  if (l.grid.x > 264) l.grid.x = 264;  // mostly there is little or nothing to do
  device::launch(l, &gather_features_kernel, a, count_at);
}

}  // namespace
}  // namespace kvant
