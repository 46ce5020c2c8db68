#pragma once

// The int8 GEMM by mma.sync with the whole epilogue of LLM.int8(), a block a tile.

#include "cuda/mma_epilogue.hpp"
#include "cuda/tile_order.hpp"

namespace kvant {
namespace {

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_mma_kernel(KVANT_CONSTANT GemmLaunch launch) {
  const GemmArgs& g = launch.args;
  const auto tiles_m = static_cast<int>((g.range.m + Tile::kBlockM - 1) / Tile::kBlockM);
  const auto tiles_n = static_cast<int>((g.range.n + Tile::kBlockN - 1) / Tile::kBlockN);
  const TileAt tile = tile_at(static_cast<int>(blockIdx.x), tiles_m, tiles_n);
  const std::int64_t m0 = std::int64_t{tile.m} * Tile::kBlockM;
  const std::int64_t n0 = std::int64_t{tile.n} * Tile::kBlockN;
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();

  std::int32_t sums[Tile::kTilesM][Tile::kTilesN][4] = {};
  multiply_tile<Tile, Int8Product>(static_cast<const unsigned char*>(g.a) + m0 * g.range.k_padded,
                                   static_cast<const unsigned char*>(g.b) + n0 * g.range.k_padded,
                                   g.range.k_padded, rows_of_tile(g.range.m, m0, Tile::kBlockM),
                                   rows_of_tile(g.range.n, n0, Tile::kBlockN), sums);

  store_tile<Tile, Int8Weights>(launch, m0, n0, sums);
}

template <class Tile>
void launch_gemm_mma(const GemmLaunch& g, void* queue) {
  const std::int64_t tiles_m = (g.args.range.m + Tile::kBlockM - 1) / Tile::kBlockM;
  const std::int64_t tiles_n = (g.args.range.n + Tile::kBlockN - 1) / Tile::kBlockN;
  device::launch({.grid = {static_cast<int>(tiles_m * tiles_n), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .queue = queue},
                 &gemm_mma_kernel<Tile>, g);
}

}  // namespace
}  // namespace kvant
