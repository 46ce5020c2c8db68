#pragma once

// The sums of a whole tile of mma.sync through the epilogue of LLM.int8() to y, panel by panel.

#include "cuda/mma_panel.hpp"
#include "cuda/stage_features.hpp"

namespace kvant {
namespace {

/// @tparam Weights  those of found outlier features (Int8Weights)
/// @tparam Sum  std::int32_t, or float of weights in groups
/// @param m0, n0  the tile's first row and column
template <class Tile, class Weights, class Sum>
KVANT_DEVICE void store_tile(const GemmLaunch& launch, std::int64_t m0, std::int64_t n0,
                             const Sum (&sums)[Tile::kTilesM][Tile::kTilesN][4]) {
  using Panel = MmaPanel<Tile>;
  using Cut = typename Panel::Cut;
  const GemmArgs& g = launch.args;
  auto* const panel = reinterpret_cast<Sum*>(device::shared_memory());
  auto* const xs = reinterpret_cast<float*>(device::shared_memory() + Cut::kBytes);
  float* const ws = xs + Panel::kFeatures * Tile::kBlockM;
  const auto thread = static_cast<int>(threadIdx.x);
  const int vector = thread % Cut::kVectors, row0 = thread / Cut::kVectors;
  const std::int64_t n = n0 + vector * 4;
  const FourColumns columns = FourColumns::load<Sum>(g, n);
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
          stage_features<Tile::kThreads, Tile::kBlockM, Tile::kBlockN, Weights>(
              launch.args, thread, first, count, xs, m0, ws, Tile::kBlockN, n0);
          device::block_barrier();
        }
        add_features(outliers, xs, Tile::kBlockM, rows, ws + vector * 4, Tile::kBlockN, count);
      }
#pragma unroll
      for (int r = 0; r < Panel::kStep; ++r) {
        Sum acc[4];
        load_four(panel + rows_of_panel[r] * Cut::kStride + vector * 4, acc);
        finish_four(launch, m0 + rows[r], n, load_row_scale(g, m0 + rows[r]), columns, acc,
                    features > 0, outliers[r]);
      }
    }
  }
}

}  // namespace
}  // namespace kvant
