#pragma once

// Held by calls that use a context's workspace. In debug builds one that another thread holds is
// refused; in others it is nothing.

#include "kvant/context.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {

class [[nodiscard]] ContextUse {
 public:
#ifdef NDEBUG
  ContextUse(const char* /*who*/, Context& /*context*/) noexcept {}
  ~ContextUse() {}
#else
  /// @throws Error invalid_argument
  ContextUse(const char* who, Context& context) : user_(context.user_) {
    static thread_local char me;  // its address is the thread's name
    const void* nobody = nullptr;
    if (!user_.thread.compare_exchange_strong(nobody, &me) && nobody != &me) {
      fail(ErrorCode::invalid_argument, std::string(who) +
                                            ": the Context is in use by another thread; each "
                                            "thread needs one of its own (weights "
                                            "may be shared)");
    }
    ++user_.depth;
  }
  ~ContextUse() {
    if (--user_.depth == 0) user_.thread = nullptr;
  }
#endif
  ContextUse(const ContextUse&) = delete;
  ContextUse& operator=(const ContextUse&) = delete;

#ifndef NDEBUG
 private:
  ContextUser& user_;
#endif
};

}  // namespace kvant::detail
