// An application's own thread pool as kvant's Executor: ten lines, and no OpenMP.

#include <fmt/core.h>

#include <algorithm>
#include <condition_variable>
#include <functional>
#include <kvant/kvant.hpp>
#include <mutex>
#include <queue>
#include <random>
#include <thread>
#include <vector>

/// Any pool will do; this one is what a small application has.
class Pool {
 public:
  explicit Pool(int threads) {
    for (int i = 0; i < threads; ++i) workers_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }
  void submit(std::function<void()> job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push(std::move(job));
    }
    wake_.notify_one();
  }
  [[nodiscard]] int size() const noexcept { return static_cast<int>(workers_.size()); }

 private:
  void work() {
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return stop_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop();
      }
      job();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::queue<std::function<void()>> jobs_;
  std::vector<std::thread> workers_;
  bool stop_ = false;
};

/// The adapter.
class PoolExecutor final : public kvant::Executor {
 public:
  explicit PoolExecutor(Pool& pool) : pool_(pool) {}
  [[nodiscard]] int concurrency() const noexcept override { return pool_.size(); }
  void parallel_for(std::int64_t count, kvant::RangeFunction function) override {
    const std::int64_t ranges = std::min<std::int64_t>(count, pool_.size());
    std::mutex mutex;
    std::condition_variable done;
    std::int64_t left = ranges;
    for (std::int64_t i = 0; i < ranges; ++i) {
      pool_.submit([&, i] {
        function(count * i / ranges, count * (i + 1) / ranges);
        const std::lock_guard lock(mutex);
        if (--left == 0) done.notify_one();
      });
    }
    std::unique_lock lock(mutex);
    done.wait(lock, [&] { return left == 0; });
  }

 private:
  Pool& pool_;
};

int main() {
  constexpr std::int64_t kRows = 64;
  constexpr std::int64_t kInputs = 1024;
  constexpr std::int64_t kOutputs = 1000;
  std::mt19937 generator(1);
  std::normal_distribution<float> normal;
  std::vector<float> weights(kOutputs * kInputs);
  std::vector<float> x(kRows * kInputs);
  for (float& w : weights) w = normal(generator);
  for (float& v : x) v = normal(generator);

  Pool pool(3);
  kvant::Context context({.executor = std::make_shared<PoolExecutor>(pool)});
  const auto layer = kvant::Int8Linear::quantize(
      context, kvant::MatrixView<const float>(weights.data(), kOutputs, kInputs));
  std::vector<float> y(kRows * kOutputs);
  layer.forward(context, kvant::MatrixView<const float>(x.data(), kRows, kInputs),
                kvant::MatrixView<float>(y.data(), kRows, kOutputs));

  kvant::Context alone({.executor = kvant::inline_executor()});
  std::vector<float> again(y.size());
  layer.forward(alone, kvant::MatrixView<const float>(x.data(), kRows, kInputs),
                kvant::MatrixView<float>(again.data(), kRows, kOutputs));
  fmt::print("{} threads of the application's pool, kernels {}: results {} those of one thread\n",
             pool.size(), context.isa(), y == again ? "are exactly" : "DIFFER from");
  return y == again ? 0 : 1;
}
