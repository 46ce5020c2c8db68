#pragma once

// An Executor over std::thread, which ThreadSanitizer understands (Debian's OpenMP runtime is not
// instrumented). It starts its threads anew for each call: plain, and good enough for tests.

#include <thread>
#include <vector>

#include "kvant/executor.hpp"

namespace kvant::test {

class ThreadExecutor final : public Executor {
 public:
  explicit ThreadExecutor(int threads) : threads_(threads) {}
  [[nodiscard]] int concurrency() const noexcept override { return threads_; }
  void parallel_for(std::int64_t count, RangeFunction function) override {
    std::vector<std::thread> threads;
    for (int t = 1; t < threads_; ++t) {
      threads.emplace_back(
          [=, this] { function(count * t / threads_, count * (t + 1) / threads_); });
    }
    function(0, count / threads_);
    for (std::thread& thread : threads) thread.join();
  }

 private:
  int threads_;
};

}  // namespace kvant::test
