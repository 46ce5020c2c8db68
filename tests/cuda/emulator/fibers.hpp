#pragma once

// Fibers: a stack each, and a switch between them that a sanitizer can follow.

#include <cstddef>

#if !defined(__x86_64__) || defined(KVANT_EMULATOR_UCONTEXT)
#define KVANT_USE_UCONTEXT 1
#include <ucontext.h>
#endif

namespace kvant::device::emulated {

#if KVANT_USE_UCONTEXT
using Context = ucontext_t;
#else
using Context = void*;
#endif

inline constexpr std::size_t kStackBytes = 64 << 10;

struct Fiber {
  Context context;
  void* fake_stack = nullptr;
  const char* waits_for = nullptr;
};

/// The fibers of one launch at a time, and the place they are started from.
class Fibers {
 public:
  /// Makes `count` fibers that begin with entry, forgetting all earlier ones.
  void reset(std::size_t count, void (*entry)());
  /// From the starting place to a fiber, until one comes back.
  void run(std::size_t to);
  /// From a fiber to another, or back (to < 0). @param done  `from` does not go on later
  void go(std::size_t from, std::ptrdiff_t to, bool done = false);
  /// First thing in a new fiber.
  void entered();
  Fiber& operator[](std::size_t i) { return fibers_[i]; }
  [[nodiscard]] std::size_t size() const { return count_; }

 private:
  void switch_to(Context* from, void** fake_stack, std::ptrdiff_t to);

  Fiber* fibers_ = nullptr;
  unsigned char* stacks_ = nullptr;
  std::size_t count_ = 0, room_ = 0;
  Context home_{};
  void* home_fake_stack_ = nullptr;
  // Only the sanitizers ask for these.
  [[maybe_unused]] const void* home_stack_ = nullptr;
  [[maybe_unused]] std::size_t home_stack_bytes_ = 0;
};

}  // namespace kvant::device::emulated
