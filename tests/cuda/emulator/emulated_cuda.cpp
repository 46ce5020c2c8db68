#include "cuda/emulator/emulated_cuda.hpp"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>

#include "cuda/kernels.hpp"

namespace kvant::test {

constinit const KernelTable emulated_cuda = cuda_kernels<0>("emulated cuda", nullptr);

EmulatedMemory emulated_memory;

namespace {

/// What was allocated and not released: its sizes.
std::map<const std::byte*, std::size_t>& blocks() {
  static std::map<const std::byte*, std::size_t> all;
  return all;
}

std::mutex& blocks_mutex() {  // ranks may be threads
  static std::mutex mutex;
  return mutex;
}

void* allocate(std::size_t bytes) noexcept {
  const std::scoped_lock lock(blocks_mutex());
  if (emulated_memory.used + bytes > emulated_memory.limit) return nullptr;
  auto* const data =
      static_cast<std::byte*>(::operator new (bytes, std::align_val_t{256}, std::nothrow));
  if (data == nullptr) return nullptr;
  std::memset(data, 0xA5, bytes);  // what no kernel may rely on
  blocks()[data] = bytes;
  emulated_memory.used += bytes;
  return data;
}

void release(void* data, std::size_t bytes) noexcept {
  const std::scoped_lock lock(blocks_mutex());
  blocks().erase(static_cast<std::byte*>(data));
  emulated_memory.used -= bytes;
  ::operator delete (data, std::align_val_t{256});
}

bool reaches(const void* data) noexcept {
  const std::scoped_lock lock(blocks_mutex());
  const auto* const at = static_cast<const std::byte*>(data);
  const auto behind = blocks().upper_bound(at);
  if (behind == blocks().begin()) return false;
  const auto block = std::prev(behind);
  return at < block->first + block->second;
}

std::size_t available() noexcept {
  const std::scoped_lock lock(blocks_mutex());
  return emulated_memory.limit - std::min(emulated_memory.limit, emulated_memory.used);
}

bool copy(void* to, const void* from, std::size_t bytes, CopyKind kind, void*) noexcept {
  if (kind == CopyKind::to_host) ++emulated_memory.waits;
  if (!reaches(kind == CopyKind::to_host ? from : to)) return false;
  std::memcpy(to, from, bytes);
  return true;
}

bool copy_rows(void* to, std::size_t to_step, const void* from, std::size_t from_step,
               std::size_t bytes, std::size_t rows, void*) noexcept {
  if (!reaches(to) || !reaches(from)) return false;
  for (std::size_t r = 0; r < rows; ++r) {
    std::memcpy(static_cast<std::byte*>(to) + r * to_step,
                static_cast<const std::byte*>(from) + r * from_step, bytes);
  }
  return true;
}

void fill(void* to, int byte, std::size_t bytes, void* queue) noexcept {
  launch_fill(to, byte, static_cast<std::int64_t>(bytes), queue);
}

const char* wait(void*) noexcept {
  ++emulated_memory.waits;
  return nullptr;
}

/// Of its numbers every process has its own memory. A test that wants ranks to share one says how
/// many there are.
int devices() noexcept {
  const char* const count = std::getenv("KVANT_EMULATED_DEVICES");
  return count != nullptr ? std::atoi(count) : 8;
}
int chosen = 0;
bool choose(int device) noexcept {
  chosen = device;
  return device < devices();
}
bool identify(char* text, int size) noexcept {
  return std::snprintf(text, static_cast<std::size_t>(size), "emulated %d", chosen) < size;
}

constinit const Memory kMemory = {.space = "emulated",
                                  .allocate = &allocate,
                                  .release = &release,
                                  .copy = &copy,
                                  .copy_rows = &copy_rows,
                                  .fill = &fill,
                                  .wait = &wait,
                                  .done = [](void*) noexcept { return true; },
                                  .reaches = &reaches,
                                  .available = &available,
                                  .devices = &devices,
                                  .choose = &choose,
                                  .identify = &identify};

}  // namespace

constinit const KernelTable emulated_cuda_device = cuda_kernels<0>("emulated device", &kMemory);

DeviceCopy::DeviceCopy(const void* host, std::size_t bytes) : bytes_(bytes) {
  data_ = static_cast<std::byte*>(allocate(bytes));
  if (data_ == nullptr) throw std::bad_alloc();
  if (host != nullptr) std::memcpy(data_, host, bytes);
}
DeviceCopy::~DeviceCopy() {
  release(data_, bytes_);
}

}  // namespace kvant::test
