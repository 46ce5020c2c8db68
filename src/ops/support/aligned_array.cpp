#include "kvant/aligned_array.hpp"

#include <cstdint>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace kvant::detail {
namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::size_t kHugePage = std::size_t{2} << 20;

/// Streaming a matrix through 4 KiB pages costs a tenth of its time in page walks.
bool wants_huge_pages(std::size_t bytes) noexcept {
  return bytes >= 2 * kHugePage;
}

}  // namespace

void* allocate_aligned(std::size_t bytes) {
  // libstdc++ rounds the size up to the alignment without looking for an overflow.
  if (bytes > static_cast<std::size_t>(PTRDIFF_MAX)) throw std::bad_alloc();
  if (!wants_huge_pages(bytes)) return ::operator new(bytes, kAlignment);
  void* data = ::operator new (bytes, std::align_val_t{kHugePage});
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Advice only: whole huge pages inside the block, and no harm where the system declines.
  (void)madvise(data, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return data;
}

void free_aligned(void* data, std::size_t bytes) noexcept {
  if (wants_huge_pages(bytes)) {
    ::operator delete (data, std::align_val_t{kHugePage});
  } else {
    ::operator delete(data, kAlignment);
  }
}

}  // namespace kvant::detail
