#pragma once

// The one guard of the public border: what a public function does runs under the library's own
// floating-point environment, and running out of memory becomes the library's own error, which
// names the function. Cost: four instructions.

#include <new>
#include <string>

#include "kvant/core/float_environment.hpp"
#include "kvant/error.hpp"

namespace kvant::detail {

template <class Function>
auto at_border(const char* who, Function&& function) {
  const ScopedFloatEnvironment environment;
  try {
    return function();
  } catch (const std::bad_alloc&) {
    throw Error(ErrorCode::out_of_memory, std::string(who) + ": out of memory");
  }
}

}  // namespace kvant::detail
