#pragma once

// System calls that fail on demand: this program's own open, write, rename, ... come before the C
// library's, and pass calls on until one is due.

#include <cstdint>
#include <vector>

namespace kvant::test {

/// While it lives, the calls with these numbers (from 0, those that create, write, sync, rename or
/// make folders, over all threads) fail with an errno.
class FailingCalls {
 public:
  FailingCalls(std::vector<std::int64_t> numbers, int code);
  ~FailingCalls();
  FailingCalls(const FailingCalls&) = delete;
  FailingCalls& operator=(const FailingCalls&) = delete;

  /// How many of them have failed.
  [[nodiscard]] int failed() const;
};

}  // namespace kvant::test
