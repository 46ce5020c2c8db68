#pragma once

// The bfloat16 GEMM by mma.sync: y = narrow(a b^T + bias).

#include "cuda/mma_panel.hpp"
#include "cuda/tile_order.hpp"

namespace kvant {
namespace {

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_bf16_kernel(KVANT_CONSTANT GemmArgs g, int y_vector) {
  const auto tiles_m = static_cast<int>((g.range.m + Tile::kBlockM - 1) / Tile::kBlockM);
  const auto tiles_n = static_cast<int>((g.range.n + Tile::kBlockN - 1) / Tile::kBlockN);
  const TileAt tile = tile_at(static_cast<int>(blockIdx.x), tiles_m, tiles_n);
  const std::int64_t m0 = std::int64_t{tile.m} * Tile::kBlockM;
  const std::int64_t n0 = std::int64_t{tile.n} * Tile::kBlockN;
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  float sums[Tile::kTilesM][Tile::kTilesN][4] = {};
  const std::int64_t row_bytes = g.range.k_padded * 2;
  multiply_tile<Tile, Bfloat16Product>(static_cast<const unsigned char*>(g.a) + m0 * row_bytes,
                                       static_cast<const unsigned char*>(g.b) + n0 * row_bytes,
                                       row_bytes, rows_of_tile(g.range.m, m0, Tile::kBlockM),
                                       rows_of_tile(g.range.n, n0, Tile::kBlockN), sums);
  using Panel = MmaPanel<Tile>;
  using Cut = typename Panel::Cut;
  auto* const panel = reinterpret_cast<float*>(device::shared_memory());
  const int vector = static_cast<int>(threadIdx.x) % Cut::kVectors;
  const int row0 = static_cast<int>(threadIdx.x) / Cut::kVectors;
  const std::int64_t n = n0 + vector * 4;
  const int there = rows_of_tile(g.range.n, n, 4);
#pragma unroll 1
  for (int i = 0; i < Tile::kTilesM; ++i) {
    device::block_barrier();
    Panel::put(i, sums, panel);
    device::block_barrier();
#pragma unroll 1
    for (int p = row0; p < Panel::kRows; p += Cut::kRowStep) {
      const std::int64_t m = m0 + Panel::row(i, p);
      if (m >= g.range.m || there <= 0) continue;
      const Floats values = *reinterpret_cast<const Floats*>(panel + p * Cut::kStride + vector * 4);
      std::uint32_t bits[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) {
        const bool has_bias = g.epilogue.bias != nullptr && c < there;
        bits[c] = device::float_bits(has_bias ? device::add(values.v[c], g.epilogue.bias[n + c])
                                              : values.v[c]);
      }
      store_four(g.epilogue.y, g.epilogue.y_dtype, m * g.epilogue.y_stride + n, there, y_vector,
                 bits);
    }
  }
}

template <class Tile>
void launch_gemm_bf16(const GemmArgs& g, int y_vector, void* queue) {
  const std::int64_t tiles_m = (g.range.m + Tile::kBlockM - 1) / Tile::kBlockM;
  const std::int64_t tiles_n = (g.range.n + Tile::kBlockN - 1) / Tile::kBlockN;
  device::launch({.grid = {static_cast<int>(tiles_m * tiles_n), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .queue = queue},
                 &gemm_bf16_kernel<Tile>, g, y_vector);
}

}  // namespace
}  // namespace kvant
