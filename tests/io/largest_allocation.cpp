#include "io/largest_allocation.hpp"

#include <cstdlib>
#include <new>

namespace kvant::test {

std::atomic<std::size_t>& largest_allocation() {
  static std::atomic<std::size_t> largest{0};
  return largest;
}

}  // namespace kvant::test

namespace {

void* allocate(std::size_t size) noexcept {
  std::atomic<std::size_t>& largest = kvant::test::largest_allocation();
  std::size_t seen = largest.load(std::memory_order_relaxed);
  while (size > seen && !largest.compare_exchange_weak(seen, size)) {
  }
  return std::malloc(size == 0 ? 1 : size);
}

}  // namespace

void* operator new(std::size_t size) {
  if (void* memory = allocate(size)) return memory;
  throw std::bad_alloc();
}
void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  return allocate(size);
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}
void operator delete(void* memory, const std::nothrow_t&) noexcept {
  std::free(memory);
}
