#pragma once

// The int8 GEMM by mma.sync with the whole epilogue of LLM.int8(), a block a tile.

#include "cuda/fragments.hpp"
#include "cuda/mma_tile.hpp"
#include "cuda/tile_order.hpp"

namespace kvant {
namespace {

/// How many outlier features lie in shared memory at a time.
inline constexpr int kStagedFeatures = 16;

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_mma_kernel(KVANT_CONSTANT GemmLaunch launch) {
  const GemmArgs& g = launch.args;
  const auto tiles_m = static_cast<int>((g.m + Tile::kBlockM - 1) / Tile::kBlockM);
  const auto tiles_n = static_cast<int>((g.n + Tile::kBlockN - 1) / Tile::kBlockN);
  const TileAt tile = tile_at(static_cast<int>(blockIdx.x), tiles_m, tiles_n);
  const std::int64_t m0 = std::int64_t{tile.m} * Tile::kBlockM;
  const std::int64_t n0 = std::int64_t{tile.n} * Tile::kBlockN;
  const int rows = rows_of_tile(g.m, m0, Tile::kBlockM);
  const int columns = rows_of_tile(g.n, n0, Tile::kBlockN);
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();

  std::int32_t sums[Tile::kTilesM][Tile::kTilesN][4] = {};
  multiply_tile<Tile, Int8Product>(static_cast<const unsigned char*>(g.a) + m0 * g.k_padded,
                                   reinterpret_cast<const unsigned char*>(g.b) + n0 * g.k_padded,
                                   g.k_padded, rows, columns, sums);

  // Features lie where the ring was: x[feature][row], w[feature][column].
  auto* const xs = reinterpret_cast<float*>(device::shared_memory());
  float* const ws = xs + kStagedFeatures * Tile::kBlockM;
  static_assert(kStagedFeatures * (Tile::kBlockM + Tile::kBlockN) * 4 <= Tile::kSharedBytes);
  const std::int64_t features = g.epilogue.y_dtype == DType::int32 ? 0 : count_of_features(launch);
  const auto stage = [&](std::int64_t first, int count) {
    device::block_barrier();
    for (int i = static_cast<int>(threadIdx.x); i < count * Tile::kBlockM; i += Tile::kThreads) {
      const int row = i % Tile::kBlockM;
      xs[i] = row < rows ? feature_activation(launch, first + i / Tile::kBlockM, m0 + row) : 0.0f;
    }
    for (int i = static_cast<int>(threadIdx.x); i < count * Tile::kBlockN; i += Tile::kThreads) {
      const int column = i % Tile::kBlockN;
      ws[i] =
          column < columns ? feature_weight(launch, first + i / Tile::kBlockN, n0 + column) : 0.0f;
    }
    device::block_barrier();
  };
#pragma unroll
  for (int i = 0; i < Tile::kTilesM; ++i) {
    float found[Tile::kTilesN][4] = {};
    for (std::int64_t first = 0; first < features; first += kStagedFeatures) {
      const std::int64_t left = features - first;
      const int count = left < kStagedFeatures ? static_cast<int>(left) : kStagedFeatures;
      if (i == 0 || features > kStagedFeatures) stage(first, count);
      add_features(found, xs + Tile::first_row() + i * 16, Tile::kBlockM, ws + Tile::first_column(),
                   Tile::kBlockN, count);
    }
    store_fragments(g, launch.y_vector, m0 + Tile::first_row() + i * 16, n0 + Tile::first_column(),
                    sums[i], found, features > 0);
  }
}

template <class Tile>
void launch_gemm_mma(const GemmLaunch& g, void* queue) {
  const std::int64_t tiles_m = (g.args.m + Tile::kBlockM - 1) / Tile::kBlockM;
  const std::int64_t tiles_n = (g.args.n + Tile::kBlockN - 1) / Tile::kBlockN;
  device::launch({.grid = {static_cast<int>(tiles_m * tiles_n), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .queue = queue},
                 &gemm_mma_kernel<Tile>, g);
}

}  // namespace
}  // namespace kvant
