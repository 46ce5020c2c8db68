// The scheduler of the emulated device: launches, warps, barriers.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "cuda/emulator/emulator_state.hpp"

namespace kvant::device::emulated {

Settings settings;
Index3 thread_index, block_index, grid_size, block_size;
Cluster* cluster = nullptr;

namespace {

Fibers fibers;

void enter(int thread) {
  cluster->current = thread;
  thread_index.x = thread % cluster->shape->threads;
  block_index = cluster->first;
  block_index.x += block_of(thread);
}

/// The next lane of the warp that can go on, or the scheduler.
int next_lane(int thread) {
  const int warp = thread / kLanes, lane = thread % kLanes;
  const std::uint32_t ready = cluster->ready[static_cast<std::size_t>(warp)];
  if (ready == 0 || !cluster->error.empty()) return -1;
  const std::uint32_t behind = lane == 31 ? 0 : ready >> (lane + 1) << (lane + 1);
  return warp * kLanes + __builtin_ctz(behind != 0 ? behind : ready);
}

void not_ready(int thread) {
  cluster->ready[static_cast<std::size_t>(thread / kLanes)] &= ~(1u << thread % kLanes);
}

void leave(int thread, bool done) {
  const int next = next_lane(thread);
  if (next >= 0) enter(next);
  fibers.go(static_cast<std::size_t>(thread), next, done);
}

void run_fiber() {
  fibers.entered();
  (*cluster->kernel)();
  const int thread = cluster->current;
  Block& block = own_block();
  ++block.finished;
  ++cluster->finished;
  not_ready(thread);
  fibers[static_cast<std::size_t>(thread)].waits_for = "its end";
  if (block.at_barrier > 0 && block.at_barrier + block.finished == cluster->shape->threads) {
    cluster->error = "a block barrier that not all threads reach";
  }
  leave(thread, true);
  std::abort();
}

std::string who_waits() {
  std::string where;
  for (std::size_t t = 0; t < fibers.size(); t += kLanes) {
    const char* what = fibers[t].waits_for;
    where += " thread " + std::to_string(t) + ": " + (what != nullptr ? what : "-") + ";";
  }
  return where;
}

void run_cluster(Cluster& c) {
  cluster = &c;
  const int threads = c.shape->threads * c.shape->cluster;
  const int warps = threads / kLanes;
  c.threads.resize(static_cast<std::size_t>(threads));
  c.ready.assign(static_cast<std::size_t>(warps), 0xFFFFFFFFu);
  c.warps.resize(static_cast<std::size_t>(warps));
  for (Block& b : c.blocks) {
    b.warpgroups.resize(static_cast<std::size_t>(c.shape->threads / kGroupLanes + 1));
  }
  fibers.reset(static_cast<std::size_t>(threads), &run_fiber);
  std::vector<int> order(static_cast<std::size_t>(warps));
  for (int w = 0; w < warps; ++w) order[static_cast<std::size_t>(w)] = w;
  while (c.finished < threads) {
    std::shuffle(order.begin(), order.end(), c.random);
    bool moved = false;
    for (const int w : order) {
      if (settings.order == Order::random && (c.random() & 3) == 0) {
        moved =
            perform_one_tensor_copy() || moved;  // it may wake a warp that was looked at already
      }
      const std::uint32_t ready = c.ready[static_cast<std::size_t>(w)];
      if (ready == 0) continue;
      moved = true;
      const int thread = w * kLanes + __builtin_ctz(ready);
      enter(thread);
      fibers.run(static_cast<std::size_t>(thread));
      if (!c.error.empty()) throw std::runtime_error(c.error);
    }
    if (moved || perform_one_tensor_copy()) continue;
    throw std::runtime_error("deadlock:" + who_waits());
  }
  if (!c.tensor_copies.empty()) throw std::runtime_error("a copy is under way after the end");
}

}  // namespace

void set_ready(int thread) {
  cluster->ready[static_cast<std::size_t>(thread / kLanes)] |= 1u << thread % kLanes;
}

void suspend(const char* what) {
  const int thread = cluster->current;
  fibers[static_cast<std::size_t>(thread)].waits_for = what;
  not_ready(thread);
  leave(thread, false);
  fibers[static_cast<std::size_t>(thread)].waits_for = nullptr;
}

void fail(std::string message) {
  if (cluster->error.empty()) {
    cluster->error = std::move(message);
    cluster->error += " (thread " + std::to_string(thread_index.x) + " of block " +
                      std::to_string(block_index.x) + ")";
  }
  std::string().swap(message);  // nobody unwinds this stack
  fibers.go(static_cast<std::size_t>(cluster->current), -1);
  std::abort();
}

void launch(const LaunchShape& shape, const std::function<void()>& kernel) {
  static std::mutex one_device;  // threads that share a product's tiles take turns
  const std::lock_guard lock(one_device);
  ++settings.launches;
  if (shape.threads % kLanes != 0 || shape.threads > 1024 || shape.grid.x % shape.cluster != 0) {
    throw std::runtime_error("a launch of " + std::to_string(shape.threads) + " threads, " +
                             std::to_string(shape.grid.x) + " blocks in clusters of " +
                             std::to_string(shape.cluster));
  }
  grid_size = shape.grid;
  block_size = {shape.threads, 1, 1};
  std::mt19937 random(settings.seed);
  // Exactly as large as asked for, so that a sanitizer sees what is read behind it; filled with
  // what no kernel may rely on.
  const auto bytes = static_cast<std::size_t>(shape.shared_bytes);
  std::vector<std::unique_ptr<unsigned char, decltype(&std::free)>> shared;
  for (int i = 0; i < shape.cluster; ++i) {
    shared.emplace_back(
        static_cast<unsigned char*>(std::aligned_alloc(1024, (bytes + 1023) / 1024 * 1024 + 1024)),
        &std::free);
  }
  for (int y = 0; y < shape.grid.y; ++y) {
    for (int x = 0; x < shape.grid.x; x += shape.cluster) {
      Cluster c{};
      c.shape = &shape;
      c.kernel = &kernel;
      c.first = {x, y, 0};
      for (auto& s : shared) {
        std::memset(s.get(), 0xA5, bytes);
        Block block{};
        block.shared = s.get();
        c.blocks.push_back(std::move(block));
      }
      c.random.seed(random());
      run_cluster(c);
    }
  }
}

unsigned char* shared_memory() {
  return own_block().shared;
}
std::uint32_t shared_address(const void* p) {
  return static_cast<std::uint32_t>(static_cast<const unsigned char*>(p) - own_block().shared);
}
int cluster_rank() {
  return block_of(cluster->current);
}

unsigned char* shared_at(Block& block, std::uint32_t address, std::uint32_t bytes,
                         std::uint32_t alignment) {
  if (address % alignment != 0)
    fail("shared memory is not aligned to " + std::to_string(alignment));
  if (address + bytes > static_cast<std::uint32_t>(cluster->shape->shared_bytes)) {
    fail("beyond the shared memory: " + std::to_string(address));
  }
  return block.shared + address;
}

std::uint32_t address_in_cluster(std::uint32_t address, int rank) {
  return offset_of(address) | static_cast<std::uint32_t>(rank + 1) << 24;
}
Block& block_at(std::uint32_t address) {
  const std::uint32_t rank = address >> 24;
  if (rank == 0) return own_block();
  if (rank > cluster->blocks.size()) fail("no such block in the cluster");
  return cluster->blocks[rank - 1];
}
void load_cluster(std::uint32_t address, std::uint32_t (&words)[4]) {
  Block& block = block_at(address);
  if (&block != &own_block() && block.finished > 0) {
    fail("shared memory of a block that may be over");
  }
  std::memcpy(words, shared_at(block, offset_of(address), 16, 16), 16);
}

void block_barrier(const char* where) {
  const int number = own_thread().block_barriers++;
  if (has_fault(Fault::no_block_barrier) && number == settings.fault_index) return;
  Block& block = own_block();
  if (block.finished > 0) fail("a block barrier after the end of some threads");
  if (++block.at_barrier < cluster->shape->threads) return suspend(where);
  block.at_barrier = 0;
  const int first = block_of(cluster->current) * cluster->shape->threads;
  for (int t = first; t < first + cluster->shape->threads; ++t) set_ready(t);
}

void named_barrier(int name, int threads) {
  if (has_fault(Fault::no_named_barrier)) return;
  NamedBarrier& b = own_block().named_barriers[name];
  if (b.arrived > 0 && b.threads != threads) fail("a named barrier of two sizes");
  b.threads = threads;
  if (++b.arrived < threads) {
    b.waiting.push_back(cluster->current);
    return suspend("named_barrier");
  }
  b.arrived = 0;
  for (const int t : b.waiting) set_ready(t);
  b.waiting.clear();
}

void cluster_barrier() {
  const int number = own_thread().cluster_barriers++;
  if (has_fault(Fault::no_cluster_barrier) && number == settings.fault_index) return;
  if (cluster->finished > 0) fail("a cluster barrier after the end of some threads");
  if (++cluster->at_barrier < static_cast<int>(fibers.size())) return suspend("cluster_barrier");
  cluster->at_barrier = 0;
  for (int t = 0; t < static_cast<int>(fibers.size()); ++t) set_ready(t);
}

void together(int lanes, const char* name, void* operands, Operation operation) {
  const int thread = cluster->current, in_block = thread % cluster->shape->threads;
  Meeting& meeting =
      lanes == kLanes
          ? cluster->warps[static_cast<std::size_t>(thread / kLanes)]
          : own_block().warpgroups[static_cast<std::size_t>(in_block / kGroupLanes)].meeting;
  if (meeting.arrived > 0 && meeting.name != name) {
    fail(std::string("lanes of a warp at different operations: ") + meeting.name + " and " + name);
  }
  meeting.name = name;
  meeting.operands[in_block % lanes] = operands;
  if (++meeting.arrived < lanes) return suspend(name);
  meeting.arrived = 0;
  operation(meeting.operands);
  const int first = thread - in_block % lanes;
  for (int t = first; t < first + lanes; ++t) set_ready(t);
}

}  // namespace kvant::device::emulated
