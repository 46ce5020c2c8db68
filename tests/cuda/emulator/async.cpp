// Asynchronous work of the emulated device: cp.async, mbarriers, the tensor copy engine.

#include <cstring>
#include <utility>

#include "cuda/emulator/emulator_state.hpp"
#include "cuda/emulator/swizzle.hpp"

namespace kvant::device::emulated {
namespace {

void finish_phase(Barrier& b) {
  if (b.pending > 0 || b.bytes != 0) return;
  b.phase ^= 1;
  b.pending = b.arrivals;
  for (const int thread : b.waiting) set_ready(thread);
  b.waiting.clear();
}

Barrier& barrier_at(std::uint32_t address) {
  Block& block = block_at(address);
  if (&block != &own_block() && block.finished > 0) fail("a barrier of a block that may be over");
  const auto found = block.barriers.find(offset_of(address));
  if (found == block.barriers.end()) fail("a barrier that was not initialised");
  return found->second;
}

void perform(const TensorCopy& copy) {
  const TensorMap& map = *copy.map;
  Block& block = cluster->blocks[static_cast<std::size_t>(copy.block)];
  for (int r = 0; r < map.box_height; ++r) {
    const std::int64_t y = copy.y + r;
    for (int c = 0; c < map.box_width; c += 16) {
      unsigned char bytes[16] = {};
      for (int i = 0; i < 16; ++i) {
        const std::int64_t x = copy.x + c + i;
        const bool inside = y >= 0 && y < map.height && x >= 0 && x < map.width;
        if (inside) bytes[i] = map.data[y * map.stride + x];
      }
      const std::uint32_t to = copy.to + static_cast<std::uint32_t>(r * map.box_width + c);
      std::memcpy(block.shared + swizzled(to), bytes, 16);
    }
  }
  Barrier& b = block.barriers.find(copy.barrier)->second;
  b.bytes -= std::int64_t{map.box_width} * map.box_height;
  finish_phase(b);
}

void perform(const AsyncCopy& copy) {
  unsigned char* to = own_block().shared + copy.to;
  std::memcpy(to, copy.from, static_cast<std::size_t>(copy.bytes));
  std::memset(to + copy.bytes, 0, static_cast<std::size_t>(16 - copy.bytes));
}

}  // namespace

bool perform_one_tensor_copy() {
  auto& copies = cluster->tensor_copies;
  if (copies.empty()) return false;
  const std::size_t i =
      settings.order == Order::random ? cluster->random() % copies.size() : std::size_t{0};
  const TensorCopy copy = copies[i];
  copies.erase(copies.begin() + static_cast<std::ptrdiff_t>(i));
  perform(copy);
  return true;
}

void copy_async(std::uint32_t to, const void* from, int bytes) {
  shared_at(own_block(), to, 16, 16);
  if (reinterpret_cast<std::uintptr_t>(from) % 16 != 0) fail("cp.async: the source is not aligned");
  const AsyncCopy copy{to, from, bytes};
  if (settings.order == Order::early) return perform(copy);
  own_thread().copies.push_back(copy);
  ++own_thread().open;
}
void copy_async_commit() {
  own_thread().groups.push_back(std::exchange(own_thread().open, 0));
}
void copy_async_wait(int pending) {
  if (has_fault(Fault::short_copy_wait)) ++pending;
  Thread& thread = own_thread();
  std::size_t count = 0;
  while (thread.groups.size() > static_cast<std::size_t>(pending)) {
    count += thread.groups.front();
    thread.groups.erase(thread.groups.begin());
  }
  for (std::size_t i = 0; i < count; ++i) perform(thread.copies[i]);
  thread.copies.erase(thread.copies.begin(),
                      thread.copies.begin() + static_cast<std::ptrdiff_t>(count));
}

void barrier_init(std::uint32_t barrier, int arrivals) {
  shared_at(own_block(), barrier, 8, 8);
  own_block().barriers[barrier] = Barrier{arrivals, arrivals, 0, 0, {}};
}
void barrier_arrive(std::uint32_t barrier, int bytes) {
  if (has_fault(Fault::lost_arrival) && barrier >> 24 != 0 && &block_at(barrier) != &own_block()) {
    return;
  }
  Barrier& b = barrier_at(barrier);
  b.bytes += has_fault(Fault::fewer_bytes) && bytes > 0 ? bytes - 16 : bytes;
  if (--b.pending < 0) fail("more arrivals at a barrier than it was made for");
  finish_phase(b);
}
void barrier_wait(std::uint32_t barrier, int parity) {
  // Whole warps wait for what comes, single threads for free stages.
  const bool feeds = settings.feeding_thread == thread_index.x;
  if (has_fault(feeds ? Fault::no_empty_wait : Fault::no_full_wait)) return;
  while (barrier_at(barrier).phase == parity) {
    barrier_at(barrier).waiting.push_back(cluster->current);
    suspend("barrier_wait");
  }
}

void tensor_load(std::uint32_t to, const TensorMap& map, std::uint32_t barrier, int x, int y,
                 std::uint32_t ranks) {
  if (map.box_width != 128) fail("tensor_load: only boxes of 128 bytes");
  if (reinterpret_cast<std::uintptr_t>(map.data) % 16 != 0 || map.stride % 16 != 0) {
    fail("tensor_load: the tensor is not aligned to 16 bytes");
  }
  if (ranks == 0 || has_fault(Fault::no_multicast)) ranks = 1u << cluster_rank();
  for (int block = 0; block < static_cast<int>(cluster->blocks.size()); ++block) {
    if ((ranks >> block & 1u) == 0) continue;
    Block& target = cluster->blocks[static_cast<std::size_t>(block)];
    if (target.finished == cluster->shape->threads) fail("a copy to a block that is over");
    shared_at(target, to, static_cast<std::uint32_t>(map.box_width * map.box_height), 1024);
    if (!target.barriers.contains(barrier)) fail("a barrier that was not initialised");
    const TensorCopy copy{to, barrier, &map, x, y, block};
    if (settings.order == Order::early) {
      perform(copy);
    } else {
      cluster->tensor_copies.push_back(copy);
    }
  }
}

}  // namespace kvant::device::emulated
