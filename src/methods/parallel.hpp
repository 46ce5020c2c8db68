#pragma once

// Tasks over an Executor whose exceptions reach the caller.

#include <cstdint>
#include <exception>
#include <mutex>

#include "kvant/context.hpp"

namespace kvant::methods {

/// Runs task(i) for i in [0, count); what one computes must not depend on the others. The first
/// exception is rethrown here.
template <class Task>
void parallel_tasks(Context& context, std::int64_t count, Task&& task) {
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

}  // namespace kvant::methods
