#pragma once

// Ranks as threads of one process: what ranks compute, tested without MPI.

#include <algorithm>
#include <barrier>
#include <cstring>
#include <exception>
#include <functional>
#include <kvant/error.hpp>
#include <kvant/ranks.hpp>
#include <mutex>
#include <stdexcept>
#include <thread>
#include <vector>

namespace kvant::test {

/// What the threads of a job share.
class ThreadJob {
 public:
  explicit ThreadJob(int size)
      : size_(size), parts_(static_cast<std::size_t>(size)), barrier_(size) {}
  [[nodiscard]] int size() const { return size_; }

  /// Shows the others `mine`; use(parts) sees everybody's; returns when all are done with them.
  template <class Use>
  void exchange(int rank, const void* mine, Use&& use) {
    parts_[static_cast<std::size_t>(rank)] = mine;
    barrier_.arrive_and_wait();
    check();
    use(parts_);
    barrier_.arrive_and_wait();  // (who fails from here on shows in the next exchange)
  }
  /// This rank will not come again: the others fail.
  void leave() {
    failed_ = true;
    barrier_.arrive_and_drop();
  }

 private:
  void check() const {
    if (failed_) throw Error(ErrorCode::cancelled, "another rank failed");
  }

  int size_;
  std::vector<const void*> parts_;
  std::barrier<> barrier_;
  std::atomic<bool> failed_ = false;
};

class ThreadRanks final : public Ranks {
 public:
  /// @param connected what ranks say of their devices, whose data goes by the host all the same
  ThreadRanks(ThreadJob& job, int rank, bool connected = false)
      : job_(job), rank_(rank), connected_(connected) {}
  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return job_.size(); }
  [[nodiscard]] bool devices_connected() const noexcept override { return connected_; }

 protected:
  void do_all_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                     std::byte* all) override {
    job_.exchange(rank_, mine.data(), [&](const std::vector<const void*>& parts) {
      for (std::size_t r = 0; r < parts.size(); ++r) {
        const auto bytes = static_cast<std::size_t>(sizes[r]);
        if (bytes > 0) std::memcpy(all, parts[r], bytes);
        all += bytes;
      }
    });
  }
  void do_gather(std::span<const std::byte> mine, std::span<const std::int64_t> sizes,
                 std::byte* all) override {
    job_.exchange(rank_, mine.data(), [&](const std::vector<const void*>& parts) {
      for (std::size_t r = 0; r < parts.size() && rank_ == 0; ++r) {
        const auto bytes = static_cast<std::size_t>(sizes[r]);
        if (bytes > 0) std::memcpy(all, parts[r], bytes);
        all += bytes;
      }
    });
  }
  void do_all_max(std::span<std::int32_t> values) override {
    combine(values, [](std::int32_t a, std::int32_t b) { return std::max(a, b); });
  }
  void do_all_or(std::span<std::uint32_t> values) override {
    combine(values, [](std::uint32_t a, std::uint32_t b) { return a | b; });
  }
  void do_broadcast(std::span<std::byte> bytes) override {
    job_.exchange(rank_, bytes.data(), [&](const std::vector<const void*>& parts) {
      if (rank_ > 0) std::memcpy(bytes.data(), parts[0], bytes.size());
    });
  }

 private:
  template <class T, class Function>
  void combine(std::span<T> values, Function function) {
    std::vector<T> result(values.begin(), values.end());
    job_.exchange(rank_, values.data(), [&](const std::vector<const void*>& parts) {
      for (const void* part : parts) {
        for (std::size_t i = 0; i < values.size(); ++i) {
          result[i] = function(result[i], static_cast<const T*>(part)[i]);
        }
      }
    });
    std::copy(result.begin(), result.end(), values.begin());
  }

  ThreadJob& job_;
  int rank_;
  bool connected_;
};

/// function(ranks) on `size` threads, a rank each; rethrows what the lowest failing rank threw of
/// its own.
inline void run_ranks(int size, const std::function<void(Ranks&)>& function,
                      bool connected = false) {
  ThreadJob job(size);
  std::vector<std::exception_ptr> errors(static_cast<std::size_t>(size));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          ThreadRanks ranks(job, rank, connected);
          function(ranks);
        } catch (...) {
          errors[static_cast<std::size_t>(rank)] = std::current_exception();
          job.leave();
        }
      });
    }
  }
  std::exception_ptr first;
  for (const std::exception_ptr& error : errors) {
    if (error == nullptr) continue;
    if (first == nullptr) first = error;
    try {
      std::rethrow_exception(error);
    } catch (const Error& thrown) {
      if (thrown.code() != ErrorCode::cancelled) throw;
    }
  }
  if (first != nullptr) std::rethrow_exception(first);
}

}  // namespace kvant::test
