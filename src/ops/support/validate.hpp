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

}  // namespace kvant::detail
