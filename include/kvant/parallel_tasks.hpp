#pragma once

/// @file
/// parallel_tasks: tasks that may throw, on an Executor, which must not see exceptions.

#include <cstdint>
#include <exception>
#include <mutex>

#include "kvant/executor.hpp"

namespace kvant {

/// Runs task(i) for i in [0, count); what one computes must not depend on the others. The first
/// exception is rethrown here, behind the last task.
template <class Task>
void parallel_tasks(Executor& executor, std::int64_t count, Task&& task) {
  std::exception_ptr error;
  std::mutex mutex;
  executor.parallel_for(count, [&](std::int64_t begin, std::int64_t end) noexcept {
    try {
      for (std::int64_t i = begin; i < end; ++i) task(i);
    } catch (...) {
      const std::lock_guard lock(mutex);
      if (!error) error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
}

}  // namespace kvant
