#pragma once

// The float32 GEMM: y = narrow(a b^T + bias), on the plain multipliers, for layers that are kept in
// float. A block makes 64 x 64 results, a thread 4 x 4 of them, K in ascending order.

#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

inline constexpr int kF32Tile = 64, kF32Slice = 16, kF32Threads = 256;

struct F32Shared {
  float a[kF32Slice][kF32Tile + 4], b[kF32Slice][kF32Tile + 4];
};

/// [slice][row] of rows from `first` on; what is not there is 0.
KVANT_DEVICE void load_f32_slice(float (&to)[kF32Slice][kF32Tile + 4], const float* from,
                                 std::int64_t first, std::int64_t rows, std::int64_t k,
                                 std::int64_t k_padded) {
  for (int i = static_cast<int>(threadIdx.x); i < kF32Tile * kF32Slice; i += kF32Threads) {
    const int row = i / kF32Slice, column = i % kF32Slice;
    const bool there = first + row < rows && k + column < k_padded;
    to[column][row] = there ? from[(first + row) * k_padded + k + column] : 0.0f;
  }
}

KVANT_KERNEL(kF32Threads, 2) gemm_f32_kernel(KVANT_CONSTANT GemmArgs g) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  auto* const shared = reinterpret_cast<F32Shared*>(device::shared_memory());
  const auto tiles_n = static_cast<int>((g.range.n + kF32Tile - 1) / kF32Tile);
  const std::int64_t m0 = std::int64_t{static_cast<int>(blockIdx.x) / tiles_n} * kF32Tile;
  const std::int64_t n0 = std::int64_t{static_cast<int>(blockIdx.x) % tiles_n} * kF32Tile;
  const int row = static_cast<int>(threadIdx.x) / 16 * 4;
  const int column = static_cast<int>(threadIdx.x) % 16 * 4;
  float sums[4][4] = {};
  for (std::int64_t k = 0; k < g.range.k_padded; k += kF32Slice) {
    device::block_barrier();
    load_f32_slice(shared->a, static_cast<const float*>(g.a), m0, g.range.m, k, g.range.k_padded);
    load_f32_slice(shared->b, static_cast<const float*>(g.b), n0, g.range.n, k, g.range.k_padded);
    device::block_barrier();
    for (int i = 0; i < kF32Slice; ++i) {
#pragma unroll
      for (int r = 0; r < 4; ++r) {
#pragma unroll
        for (int c = 0; c < 4; ++c) {
          sums[r][c] = device::fused_multiply_add(shared->a[i][row + r], shared->b[i][column + c],
                                                  sums[r][c]);
        }
      }
    }
  }
#pragma unroll
  for (int r = 0; r < 4; ++r) {
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      const std::int64_t m = m0 + row + r, n = n0 + column + c;
      if (m >= g.range.m || n >= g.range.n) continue;
      const Epilogue& e = g.epilogue;
      const float value = e.bias != nullptr ? device::add(sums[r][c], e.bias[n]) : sums[r][c];
      store_float(e.y, e.y_dtype, m * e.y_stride + n, value);
    }
  }
}

inline void launch_gemm_f32(const GemmArgs& g, void* queue) {
  const std::int64_t tiles =
      (g.range.m + kF32Tile - 1) / kF32Tile * ((g.range.n + kF32Tile - 1) / kF32Tile);
  device::launch({.grid = {static_cast<int>(tiles), 1, 1},
                  .threads = kF32Threads,
                  .shared_bytes = sizeof(F32Shared),
                  .queue = queue},
                 &gemm_f32_kernel, g);
}

}  // namespace
}  // namespace kvant
