#pragma once

// Loops over an Executor, for the float parts of the model.

#include <cstdint>
#include <exception>
#include <mutex>

#include "kvant/context.hpp"

namespace kvant::models {

/// Runs task(i) for i in [0, count), on several threads if `operations`, the whole work, is worth
/// waking them. What a task computes must not depend on the others. The first exception is
/// rethrown here; executors must not see any.
template <class Task>
void parallel_tasks(Context& context, std::int64_t count, std::int64_t operations, Task&& task) {
  constexpr std::int64_t kWorthAThread = 1 << 19;
  if (count <= 1 || operations < kWorthAThread) {
    for (std::int64_t i = 0; i < count; ++i) task(i);
    return;
  }
  std::exception_ptr error;
  std::mutex mutex;
  context.executor().parallel_for(count, [&](std::int64_t begin, std::int64_t end) noexcept {
    try {
      for (std::int64_t i = begin; i < end; ++i) task(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace kvant::models
