#pragma once

// The int8 GEMM by mma.sync with the whole epilogue of LLM.int8(), a block a tile.

#include "cuda/mma_panel.hpp"
#include "cuda/stage_features.hpp"
#include "cuda/tile_order.hpp"

namespace kvant {
namespace {

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_mma_kernel(KVANT_CONSTANT GemmLaunch launch) {
  using Panel = MmaPanel<Tile>;
  using Cut = typename Panel::Cut;
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

  auto* const panel = reinterpret_cast<std::int32_t*>(device::shared_memory());
  auto* const xs = reinterpret_cast<float*>(device::shared_memory() + Cut::kBytes);
  float* const ws = xs + Panel::kFeatures * Tile::kBlockM;
  const auto thread = static_cast<int>(threadIdx.x);
  const int vector = thread % Cut::kVectors, row0 = thread / Cut::kVectors;
  const std::int64_t n = n0 + vector * 4;
  const FourColumns columns = FourColumns::load(g, n);
  const std::int64_t features =
      g.epilogue.y_dtype == DType::int32 ? 0 : count_of_features(launch.args);
#pragma unroll 1
  for (int i = 0; i < Tile::kTilesM; ++i) {
    device::block_barrier();
    Panel::put(i, sums, panel);
    device::block_barrier();
#pragma unroll 1
    for (int part = 0; part < Cut::kThreadRows; part += Panel::kStep) {
      int rows[Panel::kStep], rows_of_panel[Panel::kStep];
#pragma unroll
      for (int r = 0; r < Panel::kStep; ++r) {
        rows_of_panel[r] = row0 + (part + r) * Cut::kRowStep;
        rows[r] = Panel::row(i, rows_of_panel[r]);
      }
      float outliers[Panel::kStep][4] = {};
      for (std::int64_t first = 0; first < features; first += Panel::kFeatures) {
        const std::int64_t left = features - first;
        const int count = left < Panel::kFeatures ? static_cast<int>(left) : Panel::kFeatures;
        if ((i == 0 && part == 0) || features > Panel::kFeatures) {
          device::block_barrier();
          stage_features<Tile::kThreads, Tile::kBlockM, Tile::kBlockN>(
              launch.args, thread, first, count, xs, m0, ws, Tile::kBlockN, n0);
          device::block_barrier();
        }
        add_features(outliers, xs, Tile::kBlockM, rows, ws + vector * 4, Tile::kBlockN, count);
      }
#pragma unroll
      for (int r = 0; r < Panel::kStep; ++r) {
        std::int32_t acc[4];
        load_four(panel + rows_of_panel[r] * Cut::kStride + vector * 4, acc);
        finish_four(launch, m0 + rows[r], n, load_row_scale(g, m0 + rows[r]), columns, acc,
                    features > 0, outliers[r]);
      }
    }
  }
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
