#pragma once

// The device of machines without one: what src/cuda/device.hpp includes wherever nvcc does not
// compile. The clusters of a launch run one after the other, each thread of a cluster as a fiber.
// Exact for integers and memory, deterministic for a seed, and stricter than the hardware: what
// CUDA leaves undefined (lanes of a warp at different instructions, a barrier that not all reach,
// misaligned or foreign shared memory, a deadlock) ends the launch with a message.
//
// Asynchronous copies and products happen as late as their waits allow, or at once, or at a random
// moment (Order), and warps run in different orders, so that a missing wait or barrier shows.
//
// Not shown here: bank conflicts, missing fences between proxies, and races between blocks.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>

#include "kvant/float16.hpp"

namespace kvant::device {

struct Index3 {
  int x = 1, y = 1, z = 1;
};

/// A 2-d byte tensor and its box, as cuTensorMapEncodeTiled describes them (128-byte swizzle).
struct TensorMap {
  const unsigned char* data;
  std::int64_t width, height, stride;  ///< bytes, rows, bytes from row to row
  int box_width, box_height;
};

namespace emulated {

enum class Order { late, early, random };

/// Something a kernel relies on and does not get: a mistake, as far as the kernel is concerned.
enum class Fault {
  none,
  no_block_barrier,    ///< a block's barrier number `fault_index` lets everyone through
  no_named_barrier,    ///< all of them
  no_cluster_barrier,  ///< the one of that number
  short_copy_wait,     ///< cp.async.wait_group leaves one group more
  short_wgmma_wait,    ///< wgmma.wait_group leaves one group more
  no_full_wait,        ///< warpgroups do not wait for what comes
  no_empty_wait,       ///< the thread that feeds does not wait for free stages
  fewer_bytes,         ///< a barrier expects 16 bytes less than come
  no_multicast,        ///< a box goes to one block of the cluster only
  lost_arrival,        ///< an arrival at another block's barrier is lost
};

struct Settings {
  Fault fault = Fault::none;
  int fault_index = 0;
  int feeding_thread = 0;  ///< the thread of a block that feeds its ring
  Order order = Order::late;
  std::uint32_t seed = 0;
  int major = 9;  ///< of the device's compute capability
  int processors = 4;
  std::int64_t launches = 0;  ///< counted
};
/// Of all launches, for tests to set.
extern Settings settings;

struct LaunchShape {
  Index3 grid = {};
  int threads;
  int shared_bytes;
  int cluster;  ///< blocks along x that run together
};
/// Runs a kernel. @throws std::runtime_error for what CUDA leaves undefined
void launch(const LaunchShape& shape, const std::function<void()>& kernel);

extern Index3 thread_index, block_index, grid_size, block_size;

unsigned char* shared_memory();
std::uint32_t shared_address(const void* p);
int cluster_rank();
void block_barrier(const char* where);
void named_barrier(int name, int threads);
void cluster_barrier();
std::uint32_t address_in_cluster(std::uint32_t address, int rank);
void load_cluster(std::uint32_t address, std::uint32_t (&words)[4]);

void copy_async(std::uint32_t to, const void* from, int bytes);
void copy_async_commit();
void copy_async_wait(int pending);

/// All lanes of a warp (or warpgroup) bring their operands; the last one runs the operation.
using Operation = void (*)(void* const* operands);
void together(int lanes, const char* name, void* operands, Operation operation);
struct LoadMatrix {
  std::uint32_t* r;
  std::uint32_t row;
};
void load_matrix(void* const* operands);
/// Of both element types; a fragment's bytes are the same.
struct Multiply {
  void* c;
  const std::uint32_t* a;
  std::uint32_t b[2];
};
void multiply_s8(void* const* operands);
void multiply_bf16(void* const* operands);
struct Shuffle {
  std::uint32_t value, result;
  int lanes;
};
void shuffle(void* const* operands);

void barrier_init(std::uint32_t barrier, int arrivals);
void barrier_arrive(std::uint32_t barrier, int bytes);
void barrier_wait(std::uint32_t barrier, int parity);
/// @param ranks  the blocks of the cluster that receive the box, a bit each; 0: this block
void tensor_load(std::uint32_t to, const TensorMap& map, std::uint32_t barrier, int x, int y,
                 std::uint32_t ranks);
void wgmma(int n, std::int32_t* d, std::uint64_t a, std::uint64_t b, int accumulate);
void wgmma_commit();
void wgmma_wait(int pending);
void wgmma_fence();

}  // namespace emulated
}  // namespace kvant::device

#define threadIdx (::kvant::device::emulated::thread_index)
#define blockIdx (::kvant::device::emulated::block_index)
#define gridDim (::kvant::device::emulated::grid_size)
#define blockDim (::kvant::device::emulated::block_size)

#define KVANT_DEVICE inline
#define KVANT_KERNEL(threads, blocks_per_sm) inline void
#define KVANT_CONSTANT const

// The functions of src/cuda/ptx_sm80.hpp, ...
namespace kvant::device {
inline namespace emulation {

inline unsigned char* shared_memory() {
  return emulated::shared_memory();
}
inline std::uint32_t shared_address(const void* p) {
  return emulated::shared_address(p);
}
inline void block_barrier() {
  emulated::block_barrier("block_barrier");
}
inline void named_barrier(int name, int threads) {
  emulated::named_barrier(name, threads);
}
inline void copy_async_16(std::uint32_t to, const void* from, int bytes) {
  emulated::copy_async(to, from, bytes);
}
inline void copy_async_commit() {
  emulated::copy_async_commit();
}
template <int kPending>
inline void copy_async_wait() {
  emulated::copy_async_wait(kPending);
}
inline void load_matrix_x4(std::uint32_t (&r)[4], std::uint32_t row) {
  emulated::LoadMatrix operands{r, row};
  emulated::together(32, "load_matrix_x4", &operands, &emulated::load_matrix);
}
inline void mma_s8(std::int32_t (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                   std::uint32_t b1) {
  emulated::Multiply operands{c, a, {b0, b1}};
  emulated::together(32, "mma_s8", &operands, &emulated::multiply_s8);
}
inline void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                     std::uint32_t b1) {
  emulated::Multiply operands{c, a, {b0, b1}};
  emulated::together(32, "mma_bf16", &operands, &emulated::multiply_bf16);
}
inline std::int32_t dot_s8(std::uint32_t a, std::uint32_t b, std::int32_t sum) {
  auto bits = static_cast<std::uint32_t>(sum);  // wraps
  for (int i = 0; i < 32; i += 8) {
    const int product =
        static_cast<std::int8_t>(a >> i & 0xFFu) * static_cast<std::int8_t>(b >> i & 0xFFu);
    bits += static_cast<std::uint32_t>(product);
  }
  return static_cast<std::int32_t>(bits);
}
inline std::uint32_t shuffle_xor(std::uint32_t value, int lanes) {
  emulated::Shuffle operands{value, 0, lanes};
  emulated::together(32, "shuffle_xor", &operands, &emulated::shuffle);
  return operands.result;
}

inline int count_bits(std::uint32_t a) {
  return __builtin_popcount(a);
}
inline int lowest_bit(std::uint32_t a) {
  return __builtin_ctz(a);
}
inline std::uint32_t permute_bytes(std::uint32_t a, std::uint32_t b, std::uint32_t selector) {
  const std::uint64_t both = std::uint64_t{b} << 32 | a;
  std::uint32_t result = 0;
  for (std::uint32_t i = 0; i < 4; ++i) {
    const std::uint32_t byte = selector >> (4 * i) & 7u;
    result |= static_cast<std::uint32_t>(both >> (8 * byte) & 0xFFu) << (8 * i);
  }
  return result;
}

inline float multiply(float a, float b) {
  return a * b;  // compiled with -ffp-contract=off
}
inline float add(float a, float b) {
  return a + b;
}
inline float divide(float a, float b) {
  return a / b;
}
inline float fused_multiply_add(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline float round_half_even(float a) {
  return std::nearbyintf(a);
}
inline std::uint32_t float_bits(float a) {
  return __builtin_bit_cast(std::uint32_t, a);
}
inline float bits_float(std::uint32_t a) {
  return __builtin_bit_cast(float, a);
}
inline float half_to_float(std::uint16_t bits) {
  return static_cast<float>(__builtin_bit_cast(float16, bits));
}
inline std::uint16_t float_to_half(float a) {
  return __builtin_bit_cast(std::uint16_t, float16(a));
}
inline std::uint16_t float_to_bfloat(float a) {
  return __builtin_bit_cast(std::uint16_t, bfloat16(a));
}
inline void atomic_min(std::int32_t* at, std::int32_t value) {
  if (value < *at) *at = value;
}
inline void atomic_max(std::int32_t* at, std::int32_t value) {
  if (value > *at) *at = value;
}
inline void atomic_min(std::uint32_t* at, std::uint32_t value) {
  if (value < *at) *at = value;
}
inline void atomic_max(std::uint32_t* at, std::uint32_t value) {
  if (value > *at) *at = value;
}

struct Words4 {
  std::uint32_t w[4];
};
inline Words4 load_stream(const void* from) {
  Words4 v;
  __builtin_memcpy(&v, __builtin_assume_aligned(from, 16), sizeof(v));
  return v;
}
inline void wait_for_previous_kernel() {}
inline void let_next_kernel_start() {}

// ... and of src/cuda/ptx_sm90a.hpp.
inline void barrier_init(std::uint32_t barrier, int arrivals) {
  emulated::barrier_init(barrier, arrivals);
}
inline void barrier_init_fence() {}
inline void barrier_arrive(std::uint32_t barrier) {
  emulated::barrier_arrive(barrier, 0);
}
inline void barrier_arrive_expect(std::uint32_t barrier, int bytes) {
  emulated::barrier_arrive(barrier, bytes);
}
inline void barrier_wait(std::uint32_t barrier, int parity) {
  emulated::barrier_wait(barrier, parity);
}
inline void prefetch_map(const TensorMap&) {}
inline void tensor_load(std::uint32_t to, const TensorMap& map, std::uint32_t barrier, int x,
                        int y) {
  emulated::tensor_load(to, map, barrier, x, y, 0);
}
inline void tensor_load_to_cluster(std::uint32_t to, const TensorMap& map, std::uint32_t barrier,
                                   int x, int y, std::uint32_t ranks) {
  emulated::tensor_load(to, map, barrier, x, y, ranks);
}
inline int cluster_rank() {
  return emulated::cluster_rank();
}
inline void cluster_barrier() {
  emulated::cluster_barrier();
}
inline std::uint32_t address_in_cluster(std::uint32_t address, int rank) {
  return emulated::address_in_cluster(address, rank);
}
inline void barrier_arrive_in_cluster(std::uint32_t barrier) {
  emulated::barrier_arrive(barrier, 0);
}
inline Words4 load_cluster(std::uint32_t address) {
  Words4 v;
  emulated::load_cluster(address, v.w);
  return v;
}
inline void wgmma_fence() {
  emulated::wgmma_fence();
}
inline void wgmma_commit() {
  emulated::wgmma_commit();
}
template <int kPending>
inline void wgmma_wait() {
  emulated::wgmma_wait(kPending);
}
template <int kRegisters>
inline void more_registers() {}
template <int kRegisters>
inline void fewer_registers() {}
template <int kSums>
inline void wgmma_s8(std::int32_t (&d)[kSums], std::uint64_t a, std::uint64_t b, int accumulate) {
  emulated::wgmma(2 * kSums, d, a, b, accumulate);
}

// The host's side (src/cuda/launch.hpp has nvcc's).
struct Launch {
  Index3 grid = {};
  int threads = 32;
  int shared_bytes = 0;
  int cluster = 1;
  void* queue = nullptr;
};
template <class... Arguments>
void launch(const Launch& l, void (*kernel)(Arguments...),
            const std::type_identity_t<Arguments>&... arguments) {
  emulated::launch({l.grid, l.threads, l.shared_bytes, l.cluster}, [&] { kernel(arguments...); });
}
struct Properties {
  int major;
  int processors;
};
inline Properties properties() {
  return {emulated::settings.major, emulated::settings.processors};
}
inline TensorMap tensor_map(const void* data, std::int64_t width, std::int64_t height,
                            int box_height) {
  return {static_cast<const unsigned char*>(data), width, height, width, 128, box_height};
}

}  // namespace emulation
}  // namespace kvant::device
