#pragma once

// The bfloat16 GEMM by mma.sync: y = narrow(a b^T + bias).

#include "cuda/float_elements.hpp"
#include "cuda/mma_tile.hpp"
#include "cuda/tile_order.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_bf16_kernel(KVANT_CONSTANT HalfGemmArgs g) {
  const auto tiles_m = static_cast<int>((g.m + Tile::kBlockM - 1) / Tile::kBlockM);
  const auto tiles_n = static_cast<int>((g.n + Tile::kBlockN - 1) / Tile::kBlockN);
  const TileAt tile = tile_at(static_cast<int>(blockIdx.x), tiles_m, tiles_n);
  const std::int64_t m0 = std::int64_t{tile.m} * Tile::kBlockM;
  const std::int64_t n0 = std::int64_t{tile.n} * Tile::kBlockN;
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  float sums[Tile::kTilesM][Tile::kTilesN][4] = {};
  const std::int64_t row_bytes = g.k_padded * 2;
  multiply_tile<Tile, Bfloat16Product>(static_cast<const unsigned char*>(g.a) + m0 * row_bytes,
                                       reinterpret_cast<const unsigned char*>(g.b) + n0 * row_bytes,
                                       row_bytes, rows_of_tile(g.m, m0, Tile::kBlockM),
                                       rows_of_tile(g.n, n0, Tile::kBlockN), sums);
#pragma unroll
  for (int i = 0; i < Tile::kTilesM; ++i) {
#pragma unroll
    for (int t = 0; t < Tile::kTilesN; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const std::int64_t m = m0 + Tile::first_row() + i * 16 + e / 2 * 8;
        const std::int64_t n = n0 + Tile::first_column() + t * 8 + e % 2;
        if (m >= g.m || n >= g.n) continue;
        float value = sums[i][t][e];
        if (g.bias != nullptr) value = device::add(value, g.bias[n]);
        store_float(g.y, g.y_dtype, m * g.y_stride + n, value);
      }
    }
  }
}

template <class Tile>
void launch_gemm_bf16(const HalfGemmArgs& g, void* queue) {
  const std::int64_t tiles_m = (g.m + Tile::kBlockM - 1) / Tile::kBlockM;
  const std::int64_t tiles_n = (g.n + Tile::kBlockN - 1) / Tile::kBlockN;
  device::launch({.grid = {static_cast<int>(tiles_m * tiles_n), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .queue = queue},
                 &gemm_bf16_kernel<Tile>, g);
}

}  // namespace
}  // namespace kvant
