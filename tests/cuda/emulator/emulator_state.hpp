#pragma once

// What the parts of the emulator share: the cluster that runs, its blocks, warps and threads.

#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "cuda/emulator/emulator.hpp"
#include "cuda/emulator/fibers.hpp"

namespace kvant::device::emulated {

inline constexpr int kLanes = 32, kGroupLanes = 128;

struct AsyncCopy {  // cp.async
  std::uint32_t to;
  const void* from;
  int bytes;
};
struct Thread {
  std::vector<AsyncCopy> copies;    // of the open group and the committed ones, in order
  std::vector<std::size_t> groups;  // how many copies each committed group has
  std::size_t open = 0;
  int block_barriers = 0, cluster_barriers = 0;  // come to so far
};

struct Meeting {  // lanes at an operation that takes all of them
  const char* name = nullptr;
  int arrived = 0;
  void* operands[kGroupLanes];
};

struct Product {  // wgmma
  int n;
  std::uint64_t a, b;
  int accumulate;
  std::int32_t* d[kGroupLanes];
};
struct Warpgroup {
  Meeting meeting;
  std::vector<Product> products;
  std::vector<std::size_t> groups;
  std::size_t open = 0;
};

struct Barrier {  // mbarrier
  int arrivals, pending;
  std::int64_t bytes;
  int phase;
  std::vector<int> waiting;
};
struct NamedBarrier {
  int threads = 0, arrived = 0;
  std::vector<int> waiting;
};

struct Block {
  unsigned char* shared;
  std::vector<Warpgroup> warpgroups;
  std::unordered_map<std::uint32_t, Barrier> barriers;
  std::unordered_map<int, NamedBarrier> named_barriers;
  int at_barrier = 0, finished = 0;
};
struct TensorCopy {
  std::uint32_t to, barrier;
  const TensorMap* map;
  int x, y;
  int block;  ///< of the cluster
};

/// The blocks that run together; threads are numbered through all of them.
struct Cluster {
  const LaunchShape* shape;
  const std::function<void()>* kernel;
  Index3 first;  ///< the index of the first block
  std::vector<Block> blocks;
  std::vector<Thread> threads;
  std::vector<std::uint32_t> ready;  ///< of each warp, a bit for each lane
  std::vector<Meeting> warps;
  std::vector<TensorCopy> tensor_copies;
  int at_barrier = 0, finished = 0, current = -1;
  std::string error;
  std::mt19937 random;
};

extern Cluster* cluster;

inline int block_of(int thread) {
  return thread / cluster->shape->threads;
}
inline Block& own_block() {
  return cluster->blocks[static_cast<std::size_t>(block_of(cluster->current))];
}
inline Thread& own_thread() {
  return cluster->threads[static_cast<std::size_t>(cluster->current)];
}
inline bool has_fault(Fault fault) {
  return settings.fault == fault;
}
void set_ready(int thread);
/// The running thread stops until someone makes it ready.
void suspend(const char* what);
/// Ends the launch: the fibers stay where they are, so their frames must own nothing.
[[noreturn]] void fail(std::string message);

/// Bytes of a block's shared memory, checked.
unsigned char* shared_at(Block& block, std::uint32_t address, std::uint32_t bytes,
                         std::uint32_t alignment);
/// An address of the cluster's window: which block, and where in it.
Block& block_at(std::uint32_t address);
inline std::uint32_t offset_of(std::uint32_t address) {
  return address & 0xFFFFFFu;
}
/// A random moment to do some asynchronous work.
bool perform_one_tensor_copy();

}  // namespace kvant::device::emulated
