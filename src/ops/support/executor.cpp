#include "kvant/executor.hpp"

#include <string>

#include "kvant/error.hpp"

#if KVANT_HAS_OPENMP
#include <omp.h>
#endif

namespace kvant {
namespace {

class InlineExecutor final : public Executor {
 public:
  [[nodiscard]] int concurrency() const noexcept override { return 1; }
  void parallel_for(std::int64_t count, RangeFunction function) override {
    if (count > 0) function(0, count);
  }
};

#if KVANT_HAS_OPENMP
/// Static ranges, one per thread: the cut does not depend on timing.
class OpenMpExecutor final : public Executor {
 public:
  explicit OpenMpExecutor(int threads) : threads_(threads) {}
  [[nodiscard]] int concurrency() const noexcept override { return threads_; }
  void parallel_for(std::int64_t count, RangeFunction function) override {
    if (count <= 0) return;
    if (count == 1 || threads_ == 1) {  // no team for one range: it costs microseconds
      function(0, count);
      return;
    }
    const std::int64_t ranges = count < threads_ ? count : threads_;
    // Correct for any team size that OpenMP grants, and inside another parallel region.
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(ranges))
    for (std::int64_t i = 0; i < ranges; ++i) {
      function(count * i / ranges, count * (i + 1) / ranges);
    }
  }

 private:
  int threads_;
};
#endif

}  // namespace

std::shared_ptr<Executor> inline_executor() {
  static const std::shared_ptr<Executor> executor = std::make_shared<InlineExecutor>();
  return executor;
}

std::shared_ptr<Executor> openmp_executor(int threads) {
  if (threads < 0 || threads > 1024) {
    throw Error(ErrorCode::invalid_argument, "openmp_executor: " + std::to_string(threads) +
                                                 " threads; 0 (all) to 1024 are possible");
  }
#if KVANT_HAS_OPENMP
  if (threads == 0) threads = omp_get_max_threads();
  if (threads > 1) return std::make_shared<OpenMpExecutor>(threads);
#endif
  return inline_executor();
}

}  // namespace kvant
