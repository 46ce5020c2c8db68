#pragma once

// Loops over an Executor, for the float parts of the model.

#include <cstdint>

#include "kvant/context.hpp"
#include "kvant/parallel_tasks.hpp"

namespace kvant::models {

/// Runs task(i) for i in [0, count), on several threads if `operations`, the whole work, is worth
/// waking them. What a task computes must not depend on the others. The first exception is
/// rethrown here.
template <class Task>
void parallel_tasks(Context& context, std::int64_t count, std::int64_t operations, Task&& task) {
  constexpr std::int64_t kWorthAThread = 1 << 19;
  if (count <= 1 || operations < kWorthAThread) {
    for (std::int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  kvant::parallel_tasks(context.executor(), count, task);
}

}  // namespace kvant::models
