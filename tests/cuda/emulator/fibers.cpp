#include "cuda/emulator/fibers.hpp"

#include <cstdlib>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define KVANT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KVANT_ASAN 1
#endif
#endif
#if KVANT_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace kvant::device::emulated {
namespace {

#if KVANT_USE_UCONTEXT
void switch_stacks(Context* from, Context* to) {
  swapcontext(from, to);
}
void start_on(Context* context, unsigned char* stack, void (*entry)()) {
  getcontext(context);
  context->uc_stack.ss_sp = stack;
  context->uc_stack.ss_size = kStackBytes;
  context->uc_link = nullptr;
  makecontext(context, entry, 0);
}
#else
// The registers that a call preserves go on the stack; two system calls less than swapcontext.
extern "C" void kvant_switch_stacks(void** from, void* const* to);
asm(R"(.text
.type kvant_switch_stacks,@function
kvant_switch_stacks:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq (%rsi), %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size kvant_switch_stacks,.-kvant_switch_stacks
)");
void switch_stacks(Context* from, Context* to) {
  kvant_switch_stacks(from, to);
}
void start_on(Context* context, unsigned char* stack, void (*entry)()) {
  auto* top = reinterpret_cast<void**>(stack + kStackBytes);
  top[-1] = nullptr;  // what entry would return to
  top[-2] = reinterpret_cast<void*>(entry);
  std::memset(top - 8, 0, 6 * sizeof(void*));
  *context = top - 8;
}
#endif

}  // namespace

void Fibers::reset(std::size_t count, void (*entry)()) {
  if (room_ < count) {
    delete[] fibers_;
    std::free(stacks_);
    fibers_ = new Fiber[count];
    stacks_ = static_cast<unsigned char*>(std::aligned_alloc(4096, count * kStackBytes));
    if (stacks_ == nullptr) throw std::bad_alloc();
    room_ = count;
  }
  count_ = count;
#if KVANT_ASAN
  home_stack_ = nullptr;                                        // of whichever thread launches
  __asan_unpoison_memory_region(stacks_, count * kStackBytes);  // frames of a launch that failed
#endif
  for (std::size_t i = 0; i < count; ++i) {
    fibers_[i] = Fiber{};
    start_on(&fibers_[i].context, stacks_ + i * kStackBytes, entry);
  }
}

void Fibers::switch_to(Context* from, void** fake_stack, std::ptrdiff_t to) {
#if KVANT_ASAN
  if (to < 0) {
    __sanitizer_start_switch_fiber(fake_stack, home_stack_, home_stack_bytes_);
  } else {
    __sanitizer_start_switch_fiber(fake_stack, stacks_ + static_cast<std::size_t>(to) * kStackBytes,
                                   kStackBytes);
  }
#endif
  switch_stacks(from, to < 0 ? &home_ : &fibers_[to].context);
#if KVANT_ASAN
  __sanitizer_finish_switch_fiber(fake_stack != nullptr ? *fake_stack : nullptr, nullptr, nullptr);
#else
  static_cast<void>(fake_stack);
#endif
}

void Fibers::run(std::size_t to) {
  switch_to(&home_, &home_fake_stack_, static_cast<std::ptrdiff_t>(to));
}

void Fibers::go(std::size_t from, std::ptrdiff_t to, bool done) {
  switch_to(&fibers_[from].context, done ? nullptr : &fibers_[from].fake_stack, to);
}

void Fibers::entered() {
#if KVANT_ASAN
  const void* from = nullptr;
  std::size_t bytes = 0;
  __sanitizer_finish_switch_fiber(nullptr, &from, &bytes);
  if (home_stack_ == nullptr) {  // a launch's first fiber comes from home
    home_stack_ = from;
    home_stack_bytes_ = bytes;
  }
#endif
}

}  // namespace kvant::device::emulated
