#pragma once

// The same work for each layer of a model, on several threads; the results do not depend on how
// many.

#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>

#include "kvant/executor.hpp"

namespace kvant::look {

/// Runs task(i) for i in [0, count), each followed by done(i) under a lock. The error of
/// the first layer in order that failed is thrown when all threads have stopped.
template <class Task, class Done>
void for_each_layer(std::size_t count, int threads, Task&& task, Done&& done) {
  std::mutex mutex;
  std::size_t failed_at = count;
  std::exception_ptr failure;
  openmp_executor(threads)->parallel_for(static_cast<std::int64_t>(count),
                                         [&](std::int64_t begin, std::int64_t end) {
                                           for (std::int64_t i = begin; i < end; ++i) {
                                             const auto index = static_cast<std::size_t>(i);
                                             try {
                                               task(index);
                                               const std::lock_guard lock(mutex);
                                               done(index);
                                             } catch (...) {
                                               const std::lock_guard lock(mutex);
                                               if (index < failed_at) {
                                                 failed_at = index;
                                                 failure = std::current_exception();
                                               }
                                             }
                                           }
                                         });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace kvant::look
