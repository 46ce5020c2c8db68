#pragma once

// The checks of the public border: those of every header (kvant/core/checks.hpp), and what a
// context must be.

#include <string>

#include "kvant/context.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::detail {

/// Functions whose data is the host's by its nature.
inline void check_host(const char* who, const Context& context) {
  if (context.memory() == nullptr) return;
  fail(ErrorCode::unsupported, std::string(who) + ": works on the host, the context runs \"" +
                                   context.kernels().name + "\"; give it another context");
}

/// Where the kernels are. Asking costs a microsecond, so only debug builds do.
inline void check_reachable([[maybe_unused]] const char* who, [[maybe_unused]] const char* what,
                            [[maybe_unused]] const ConstAnyMatrix& m,
                            [[maybe_unused]] const Context& context) {
#if !defined(NDEBUG)
  if (context.memory() == nullptr || context.memory()->reaches(m.data)) return;
  fail(ErrorCode::invalid_argument, std::string(who) + ": " + what +
                                        " is in host memory, the context runs \"" +
                                        context.kernels().name + "\"");
#endif
}

}  // namespace kvant::detail
