// Every allocation of building and running a layer fails in turn: always Error out_of_memory, never
// a leak (the sanitizers watch), never a changed output.

#include <cstdlib>
#include <new>

#include "kvant/linear.hpp"
#include "support/catch.hpp"
#include "support/random.hpp"

namespace {

/// Counts down to the allocation that fails; negative: none does.
thread_local int allocations_left = -1;

bool allocation_fails() noexcept {
  if (allocations_left < 0) return false;
  return allocations_left-- == 0;
}

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (allocation_fails()) throw std::bad_alloc();
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* p = std::aligned_alloc(alignment, rounded == 0 ? alignment : rounded);
  if (p == nullptr) throw std::bad_alloc();
  return p;
}

/// Never inlined: g++ would see malloc's memory go to free by way of new and delete, and warn.
[[gnu::noinline]] void release(void* p) noexcept {
  std::free(p);
}

}  // namespace

void* operator new(std::size_t bytes) {
  return allocate(bytes, alignof(std::max_align_t));
}
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void* operator new(std::size_t bytes, const std::nothrow_t&) noexcept {
  return allocation_fails() ? nullptr : std::malloc(bytes == 0 ? 1 : bytes);
}
void operator delete(void* p, const std::nothrow_t&) noexcept {
  release(p);
}
void operator delete(void* p) noexcept {
  release(p);
}
void operator delete(void* p, std::size_t) noexcept {
  release(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
  release(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
  release(p);
}

namespace kvant::test {

namespace {

void check_every_allocation(const ActivationOptions& options) {
  std::mt19937_64 generator(test_seed());
  const std::int64_t m = 4;
  const std::int64_t n = 60;
  const std::int64_t k = 70;
  const std::vector<float> x = random_floats(generator, m * k, 3.0f);
  const std::vector<float> w = random_floats(generator, n * k);
  std::vector<float> want(static_cast<std::size_t>(m * n));
  const auto whole = [&](std::vector<float>& y) {
    Context context({.executor = inline_executor()});
    const auto layer =
        Int8Linear::quantize(context, MatrixView<const float>(w.data(), n, k), {}, options);
    layer.forward(context, MatrixView<const float>(x.data(), m, k),
                  MatrixView<float>(y.data(), m, n));
  };
  whole(want);
  int failures = 0;
  for (int i = 0; i < 1000; ++i) {
    std::vector<float> y(want.size(), 0.0f);
    allocations_left = i;
    ErrorCode code = ErrorCode::ok;
    try {
      whole(y);
    } catch (const Error& error) {
      code = error.code();
    } catch (const std::bad_alloc&) {  // while the message itself was made
      code = ErrorCode::out_of_memory;
    }
    const bool reached = allocations_left < 0;
    allocations_left = -1;
    if (!reached) {
      CHECK(y == want);
      break;
    }
    REQUIRE(code == ErrorCode::out_of_memory);
    CHECK(y == std::vector<float>(want.size(), 0.0f));
    ++failures;
  }
  CHECK(failures >= 8);
}

}  // namespace

TEST_CASE("every allocation fails once: out_of_memory, nothing lost") {
  const std::vector<std::int64_t> keep = {3, 9};
  check_every_allocation({.keep_columns = keep});
  check_every_allocation({.arithmetic = Arithmetic::int15});
}

}  // namespace kvant::test
