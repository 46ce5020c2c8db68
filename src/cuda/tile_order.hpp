#pragma once

// The order of output tiles: kTileGroup rows of tiles, column by column, so that blocks that run
// together share rows of A and B in the second-level cache.

#include "cuda/device.hpp"

namespace kvant {
namespace {

inline constexpr int kTileGroup = 8;

struct TileAt {
  int m, n;
};

KVANT_DEVICE TileAt tile_at(int index, int tiles_m, int tiles_n) {
  const int group = index / (kTileGroup * tiles_n), in_group = index % (kTileGroup * tiles_n);
  const int left = tiles_m - group * kTileGroup;
  const int rows = left < kTileGroup ? left : kTileGroup;
  return {group * kTileGroup + in_group % rows, in_group / rows};
}

}  // namespace
}  // namespace kvant
