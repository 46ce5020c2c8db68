#pragma once

/// @file
/// numerics.md fixes the rounding; a caller's thread may run with another one, or with subnormals
/// flushed to zero (audio code and some math libraries set that). Cost: two instructions each way.

#include <cstdint>
#if !defined(__x86_64__)
#include <cfenv>
#endif

#include "kvant/config.hpp"

namespace kvant::detail {

/// Round to nearest even, subnormals kept, exceptions masked, for the lifetime of the object.
class ScopedFloatEnvironment {
 public:
#if defined(__x86_64__)
  ScopedFloatEnvironment() noexcept {
    __asm__ volatile("stmxcsr %0" : "=m"(saved_));
    constexpr std::uint32_t kDefault = 0x1F80;
    __asm__ volatile("ldmxcsr %0" : : "m"(kDefault) : "memory");
  }
  ~ScopedFloatEnvironment() {
    __asm__ volatile("ldmxcsr %0" : : "m"(saved_) : "memory");
  }

 private:
  std::uint32_t saved_;
#else
  ScopedFloatEnvironment() noexcept {
    std::fegetenv(&saved_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~ScopedFloatEnvironment() {
    std::fesetenv(&saved_);
  }

 private:
  std::fenv_t saved_;
#endif
 public:
  ScopedFloatEnvironment(const ScopedFloatEnvironment&) = delete;
  ScopedFloatEnvironment& operator=(const ScopedFloatEnvironment&) = delete;
};

}  // namespace kvant::detail
