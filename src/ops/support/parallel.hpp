#pragma once

// How ops hand work to an Executor: always over the output, always under the library's own
// floating-point environment, and not at all when the work is too small to pay for waking a thread.

#include <cstdint>

#include "kvant/context.hpp"
#include "kvant/core/float_environment.hpp"

namespace kvant::detail {

/// Below this many elementary operations a range is not worth a thread (waking one costs some
/// microseconds).
inline constexpr std::int64_t kInlineOperations = 1 << 17;

/// Runs function(begin, end) over [0, count); `operations` estimates the whole work.
template <class Function>
void parallel(Context& context, std::int64_t count, std::int64_t operations, Function&& function) {
  if (count <= 0) return;
  if (operations < kInlineOperations || count == 1) {
    const ScopedFloatEnvironment environment;
    function(std::int64_t{0}, count);
    return;
  }
  context.executor().parallel_for(count, [&function](std::int64_t begin, std::int64_t end) {
    const ScopedFloatEnvironment environment;
    function(begin, end);
  });
}

}  // namespace kvant::detail
