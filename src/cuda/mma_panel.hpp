#pragma once

// The sums of a tile of mma.sync, from registers into panels of shared memory.

#include "cuda/mma_tile.hpp"
#include "cuda/panel.hpp"

namespace kvant {
namespace {

/// A tile's sums leave in panels: the i-th 16 rows of every warp, all columns.
template <class Tile>
struct MmaPanel {
  static constexpr int kRows = Tile::kBlockM / Tile::kTilesM;
  using Cut = PanelCut<Tile::kThreads, kRows, Tile::kBlockN>;
  static constexpr int kStep = 4;  ///< rows of a thread that go together
  /// How many outlier features lie in shared memory at a time, where the ring was.
  static constexpr int kFeatures = 16;
  static constexpr int kFeatureBytes = kFeatures * (Tile::kBlockM + Tile::kBlockN) * 4;
  static_assert(Cut::kThreadRows % kStep == 0);
  static_assert(Cut::kBytes + kFeatureBytes <= Tile::kSharedBytes);

  /// The row of the tile that is row p of panel i.
  KVANT_DEVICE static int row(int i, int p) { return p / 16 * Tile::kWarpM + i * 16 + p % 16; }

  template <class Sum>
  KVANT_DEVICE static void put(const Sum (&sums)[Tile::kTilesN][4], Sum* panel) {
    const int row0 = Tile::warp_row() / Tile::kWarpM * 16 + static_cast<int>(threadIdx.x) % 32 / 4;
#pragma unroll
    for (int t = 0; t < Tile::kTilesN; ++t) {
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        panel[(row0 + e / 2 * 8) * Cut::kStride + Tile::first_column() + t * 8 + e % 2] =
            sums[t][e];
      }
    }
  }
  /// Panel i of the tile, with i known at run time and registers by number.
  template <class Sum>
  KVANT_DEVICE static void put(int i, const Sum (&sums)[Tile::kTilesM][Tile::kTilesN][4],
                               Sum* panel) {
#pragma unroll
    for (int j = 0; j < Tile::kTilesM; ++j) {
      if (i == j) put(sums[j], panel);
    }
  }
};

}  // namespace
}  // namespace kvant
