#pragma once

/// @file
/// Executor: where the threads come from. kvant never starts a thread of its own; it hands ranges
/// to an Executor. OpenMP is the shipped one, the inline one is always there, and an application
/// plugs in its own pool with ten lines (examples/thread_pool.cpp).

#include <cstdint>
#include <memory>
#include <type_traits>

#include "kvant/config.hpp"

namespace kvant {

/// A non-owning reference to a callable void(begin, end); lives for the call that receives it.
class RangeFunction {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, RangeFunction>) RangeFunction(F&& function)
  noexcept  // NOLINT: implicit on purpose
      : object_(const_cast<void*>(static_cast<const void*>(&function))),
        call_([](void* object, std::int64_t begin, std::int64_t end) {
          (*static_cast<std::remove_reference_t<F>*>(object))(begin, end);
        }) {}

  void operator()(std::int64_t begin, std::int64_t end) const { call_(object_, begin, end); }

 private:
  void* object_;
  void (*call_)(void*, std::int64_t, std::int64_t);
};

/// Runs a function over [0, count), cut into ranges, possibly at the same time on several threads.
/// Contract: every index is covered exactly once, parallel_for returns when all ranges are done,
/// and the memory they wrote is visible to the caller. kvant's own functions never throw inside.
/// Results do not depend on how the range is cut. Its threads need 192 KiB of stack: kernels keep
/// their sums there, 110 KiB with AMX.
class KVANT_API Executor {
 public:
  virtual ~Executor() = default;
  /// The number of ranges that can run at the same time, at least 1.
  [[nodiscard]] virtual int concurrency() const noexcept = 0;
  virtual void parallel_for(std::int64_t count, RangeFunction function) = 0;
};

/// Runs everything in the calling thread.
[[nodiscard]] KVANT_API std::shared_ptr<Executor> inline_executor();

/// `threads` OpenMP threads; 0 = as many as OpenMP would use (OMP_NUM_THREADS, else the cores).
/// Falls back to the inline executor where kvant was built without OpenMP.
/// @throws Error invalid_argument for a negative count or more than 1024.
[[nodiscard]] KVANT_API std::shared_ptr<Executor> openmp_executor(int threads = 0);

}  // namespace kvant
