#include "cuda/ceilings.hpp"

#include "cuda/device.hpp"

namespace kvant::bench {
namespace {

constexpr int kFillThreads = 256, kReadThreads = 512, kReadAtOnce = 8;
constexpr int kStages = 4, kStageBytes = (128 + 256) * 128;

int processors() {
  return device::properties().processors;
}

/// A number from a counter (splitmix64).
__device__ std::uint64_t mixed(std::uint64_t z) {
  z += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

/// The sum of eight numbers below 32, less its mean: -124..124.
__device__ int bell(std::uint64_t bits) {
  int sum = -124;
  for (int i = 0; i < 8; ++i) sum += static_cast<int>(bits >> (5 * i) & 31u);
  return sum;
}

__global__ void fill_codes_kernel(std::uint32_t* data, std::size_t words, std::uint64_t seed) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < words; i += step) {
    std::uint32_t word = 0;
    for (std::uint64_t b = 0; b < 4; ++b) {
      const int code = bell(mixed((i * 4 + b) ^ seed << 40));
      word |= (static_cast<std::uint32_t>(code) & 0xFFu) << (8 * b);
    }
    data[i] = word;
  }
}

__global__ void fill_bfloat16_kernel(std::uint16_t* data, std::size_t count, float scale,
                                     std::uint64_t seed) {
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  for (std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x; i < count; i += step) {
    data[i] = device::float_to_bfloat(scale * static_cast<float>(bell(mixed(i ^ seed << 40))));
  }
}

__global__ void __launch_bounds__(kReadThreads)
    read_kernel(const device::Words4* data, std::size_t count, std::uint32_t* sink) {
  std::uint32_t all = 0;
  const std::size_t step = std::size_t{gridDim.x} * blockDim.x;
  std::size_t i = blockIdx.x * std::size_t{blockDim.x} + threadIdx.x;
  for (; i + (kReadAtOnce - 1) * step < count; i += kReadAtOnce * step) {
    device::Words4 v[kReadAtOnce];
#pragma unroll
    for (int u = 0; u < kReadAtOnce; ++u) v[u] = device::load_stream(data + i + u * step);
#pragma unroll
    for (int u = 0; u < kReadAtOnce; ++u) all ^= v[u].w[0] ^ v[u].w[1] ^ v[u].w[2] ^ v[u].w[3];
  }
  for (; i < count; i += step) all ^= device::load_stream(data + i).w[0];
  if (all == 0x12345678u) *sink = all;  // so that nothing is left out
}

__global__ void __launch_bounds__(384, 1)
    wgmma_loop(const std::uint32_t* data, int loops, std::uint32_t* sink) {
  auto* const shared = reinterpret_cast<std::uint32_t*>(device::shared_memory());
  for (int i = static_cast<int>(threadIdx.x); i < kStages * kStageBytes / 4; i += 384) {
    shared[i] = data[i];
  }
  KVANT_SM90A(asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory"));
  device::block_barrier();
  if (threadIdx.x < 128) {
    device::fewer_registers<40>();
    return;
  }
  device::more_registers<232>();
  std::int32_t sums[128];
#pragma unroll
  for (int i = 0; i < 128; ++i) sums[i] = 0;
  const std::uint32_t ring = device::shared_address(shared);
  for (int l = 0; l < loops; ++l) {
    const std::uint32_t at = ring + static_cast<std::uint32_t>(l % kStages * kStageBytes);
    const std::uint64_t a = device::wgmma_operand(at + (threadIdx.x / 128 - 1) * 64 * 128);
    const std::uint64_t b = device::wgmma_operand(at + 128 * 128);
    device::wgmma_fence();
#pragma unroll
    for (int s = 0; s < 4; ++s) {
      device::wgmma_s8(sums, a + static_cast<std::uint64_t>(s * 2),
                       b + static_cast<std::uint64_t>(s * 2), 1);
    }
    device::wgmma_commit();
    device::wgmma_wait<1>();
  }
  device::wgmma_wait<0>();
  std::int32_t all = 0;
#pragma unroll
  for (int i = 0; i < 128; ++i) all ^= sums[i];
  if (all == 0x12345678) *sink = 1;
}

__global__ void __launch_bounds__(256, 2)
    mma_loop(const std::uint32_t* data, int loops, std::uint32_t* sink) {
  std::int32_t sums[16][4] = {};
  std::uint32_t a[4][4], b[4][2];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 4; ++j) a[i][j] = data[threadIdx.x * 24 + i * 4 + j];
#pragma unroll
    for (int j = 0; j < 2; ++j) b[i][j] = data[threadIdx.x * 24 + 16 + i * 2 + j];
  }
  for (int l = 0; l < loops; ++l) {
#pragma unroll
    for (int i = 0; i < 16; ++i) device::mma_s8(sums[i], a[i / 4], b[i % 4][0], b[i % 4][1]);
  }
  std::int32_t all = 0;
#pragma unroll
  for (int i = 0; i < 16; ++i) all ^= sums[i][0] ^ sums[i][1] ^ sums[i][2] ^ sums[i][3];
  if (all == 0x12345678) *sink = 1;
}

}  // namespace

void fill_codes(void* data, std::size_t bytes, std::uint32_t seed, cudaStream_t stream) {
  fill_codes_kernel<<<processors() * 8, kFillThreads, 0, stream>>>(
      static_cast<std::uint32_t*>(data), bytes / 4, seed);
}

void fill_bfloat16(void* data, std::size_t count, float deviation, std::uint32_t seed,
                   cudaStream_t stream) {
  constexpr float kBellDeviation = 26.1f;
  fill_bfloat16_kernel<<<processors() * 8, kFillThreads, 0, stream>>>(
      static_cast<std::uint16_t*>(data), count, deviation / kBellDeviation, seed);
}

void stream_read(const void* data, std::size_t bytes, void* sink, cudaStream_t stream) {
  read_kernel<<<processors() * 8, kReadThreads, 0, stream>>>(
      static_cast<const device::Words4*>(data), bytes / 16, static_cast<std::uint32_t*>(sink));
}

double multiply_loop(const void* data, int loops, void* sink, cudaStream_t stream) {
  const auto* const words = static_cast<const std::uint32_t*>(data);
  auto* const to = static_cast<std::uint32_t*>(sink);
  if (device::properties().major == 9) {
    constexpr int kBytes = kStages * kStageBytes;
    cudaFuncSetAttribute(wgmma_loop, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    wgmma_loop<<<processors(), 384, kBytes, stream>>>(words, loops, to);
    return 2.0 * processors() * 2 * loops * 64 * 256 * 128;
  }
  mma_loop<<<processors() * 2, 256, 0, stream>>>(words, loops, to);
  return 2.0 * processors() * 2 * 8 * loops * 16 * 16 * 8 * 32;
}

}  // namespace kvant::bench
