#pragma once

// The int8 GEMM on Hopper (sm_90a), with the whole epilogue of LLM.int8(): one warp feeds the ring,
// two warpgroups multiply what has come by wgmma, 64 rows each. Two blocks of a cluster lie one
// below the other and share their columns of B: each loads half and sends it to both. Blocks stay
// for as many tiles as there are; the next tile's slices come during the epilogue.

#include "cuda/fragments.hpp"
#include "cuda/tile_order.hpp"
#include "cuda/wgmma_ring.hpp"

namespace kvant {
namespace {

template <int kN, int kStageCount, int kClusterBlocks>
struct WgmmaTile {
  static constexpr int kBlockM = 128, kBlockN = kN;
  static constexpr int kCluster = kClusterBlocks;
  static constexpr int kThreads = 3 * 128;
  static constexpr int kBytesA = kBlockM * kSliceBytes, kBytesB = kBlockN * kSliceBytes;
  static constexpr int kStageBytes = kBytesA + kBytesB;
  using RingOf = Ring<kStageCount, kStageBytes>;
  static constexpr int kFeatures = 16;  ///< staged at a time
  static constexpr int kFeatureBytes = kFeatures * (kBlockM + kBlockN) * 4;
  static constexpr int kSharedBytes = RingOf::kDataBytes + kFeatureBytes + RingOf::kBarrierBytes;
};

/// The tiles of one block, and the slices of K of each.
struct WgmmaWork {
  int tiles_m, tiles_n, slices;

  template <class Tile>
  KVANT_DEVICE static WgmmaWork of(const GemmArgs& g) {
    constexpr int kRows = Tile::kBlockM * Tile::kCluster;
    return {static_cast<int>((g.m + kRows - 1) / kRows),
            static_cast<int>((g.n + Tile::kBlockN - 1) / Tile::kBlockN),
            static_cast<int>(g.k_padded / kSliceBytes)};
  }
};

/// Feeds the ring: one thread.
template <class Tile>
KVANT_DEVICE void feed_tiles(const typename Tile::RingOf& ring, const device::TensorMap& map_a,
                             const device::TensorMap& map_b, const WgmmaWork& work, int rank) {
  constexpr int kPart = Tile::kBlockN / Tile::kCluster;  // rows of B that this block loads
  const int clusters = static_cast<int>(gridDim.x) / Tile::kCluster;
  const int cluster = static_cast<int>(blockIdx.x) / Tile::kCluster;
  const int tiles = work.tiles_m * work.tiles_n;
  const int mine = cluster < tiles ? (tiles - cluster + clusters - 1) / clusters : 0;
  const int uses = mine * work.slices;
  const auto load = [&](int use, bool load_a, bool load_b) {
    const TileAt tile = tile_at(cluster + use / work.slices * clusters, work.tiles_m, work.tiles_n);
    const int k = use % work.slices * kSliceBytes;
    const std::uint32_t to = ring.stage(use);
    if (load_b) {
      const std::uint32_t part =
          to + Tile::kBytesA + static_cast<std::uint32_t>(rank * kPart * kSliceBytes);
      const int n = tile.n * Tile::kBlockN + rank * kPart;
      if constexpr (Tile::kCluster == 1) {
        device::tensor_load(part, map_b, ring.full(use), k, n);
      } else {
        device::tensor_load_to_cluster(part, map_b, ring.full(use), k, n,
                                       (1u << Tile::kCluster) - 1u);
      }
    }
    if (load_a) {
      device::tensor_load(to, map_a, ring.full(use), k,
                          (tile.m * Tile::kCluster + rank) * Tile::kBlockM);
    }
  };
  // The first weights come while the kernel in front makes the activations.
  const int ahead = uses < Tile::RingOf::kStages ? uses : Tile::RingOf::kStages;
  for (int use = 0; use < ahead; ++use) {
    device::barrier_arrive_expect(ring.full(use), Tile::kStageBytes);
    load(use, false, true);
  }
  device::wait_for_previous_kernel();
  for (int use = 0; use < ahead; ++use) load(use, true, false);
  for (int use = ahead; use < uses; ++use) {
    ring.wait_empty(use);
    device::barrier_arrive_expect(ring.full(use), Tile::kStageBytes);
    load(use, true, true);
  }
}

/// A tile's sums through the epilogue: the 256 threads of both warpgroups.
/// @param m0, n0  the block's tile  @param features  x [count][rows], then w [count][columns]
template <class Tile>
KVANT_DEVICE void finish_wgmma_tile(const GemmLaunch& launch, std::int64_t m0, std::int64_t n0,
                                    const std::int32_t (&sums)[Tile::kBlockN / 2],
                                    float* features) {
  const GemmArgs& g = launch.args;
  const int thread = static_cast<int>(threadIdx.x) - 128;
  const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
  float* const weights = features + Tile::kFeatures * Tile::kBlockM;
  const std::int64_t count = g.epilogue.y_dtype == DType::int32 ? 0 : count_of_features(launch);
  // All columns at once where one piece holds the features, else those of one group.
  const auto stage = [&](std::int64_t first, int piece, int from, int columns) {
    device::named_barrier(1, 256);
    for (int i = thread; i < piece * Tile::kBlockM; i += 256) {
      const std::int64_t m = m0 + i % Tile::kBlockM;
      features[i] = m < g.m ? feature_activation(launch, first + i / Tile::kBlockM, m) : 0.0f;
    }
    for (int i = thread; i < piece * columns; i += 256) {
      const int at = from + i % columns;
      weights[i / columns * Tile::kBlockN + at] =
          n0 + at < g.n ? feature_weight(launch, first + i / columns, n0 + at) : 0.0f;
    }
    device::named_barrier(1, 256);
  };
#pragma unroll
  for (int group = 0; group < Tile::kBlockN / 32; ++group) {
    float found[4][4] = {};
    for (std::int64_t first = 0; first < count; first += Tile::kFeatures) {
      const std::int64_t left = count - first;
      const int piece = left < Tile::kFeatures ? static_cast<int>(left) : Tile::kFeatures;
      if (count > Tile::kFeatures) {
        stage(first, piece, group * 32, 32);
      } else if (group == 0) {
        stage(first, piece, 0, Tile::kBlockN);
      }
      add_features(found, features + row, Tile::kBlockM, weights + column + group * 32,
                   Tile::kBlockN, piece);
    }
    std::int32_t acc[4][4];
#pragma unroll
    for (int i = 0; i < 16; ++i) acc[i / 4][i % 4] = sums[group * 16 + i];
    store_fragments(g, launch.y_vector, m0 + row, n0 + column + group * 32, acc, found, count > 0);
  }
}

/// Multiplies what comes through the ring: one warpgroup, the rows of its half of the tile.
template <class Tile>
KVANT_DEVICE void multiply_tiles(const typename Tile::RingOf& ring, const GemmLaunch& launch,
                                 const WgmmaWork& work, int rank, float* features) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  const int half = static_cast<int>(threadIdx.x) / 128 - 1;
  const int clusters = static_cast<int>(gridDim.x) / Tile::kCluster;
  // One thread for each block that fills the stage.
  const auto release = [&](int use) {
    if (thread >= Tile::kCluster) return;
    if constexpr (Tile::kCluster == 1) {
      device::barrier_arrive(ring.empty(use));
    } else {
      device::barrier_arrive_in_cluster(device::address_in_cluster(ring.empty(use), thread));
    }
  };
  std::int32_t sums[Tile::kBlockN / 2];
#pragma unroll
  for (int i = 0; i < Tile::kBlockN / 2; ++i) sums[i] = 0;
  int use = 0;
  for (int index = static_cast<int>(blockIdx.x) / Tile::kCluster;
       index < work.tiles_m * work.tiles_n; index += clusters) {
    for (int slice = 0; slice < work.slices; ++slice, ++use) {
      ring.wait_full(use);
      const std::uint32_t at = ring.stage(use);
      const std::uint64_t a =
          device::wgmma_operand(at + static_cast<std::uint32_t>(half * 64 * kSliceBytes));
      const std::uint64_t b = device::wgmma_operand(at + Tile::kBytesA);
      device::wgmma_fence();
#pragma unroll
      for (int step = 0; step < kSliceBytes / 32; ++step) {
        const auto along = static_cast<std::uint64_t>(step * 2);
        device::wgmma_s8(sums, a + along, b + along, slice > 0 || step > 0 ? 1 : 0);
      }
      device::wgmma_commit();
      device::wgmma_wait<1>();  // the slice before is done with
      if (slice > 0) release(use - 1);
    }
    device::wgmma_wait<0>();
    release(use - 1);
    const TileAt tile = tile_at(index, work.tiles_m, work.tiles_n);
    finish_wgmma_tile<Tile>(launch, (std::int64_t{tile.m} * Tile::kCluster + rank) * Tile::kBlockM,
                            std::int64_t{tile.n} * Tile::kBlockN, sums, features);
  }
}

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_wgmma_kernel(KVANT_CONSTANT device::TensorMap map_a, KVANT_CONSTANT device::TensorMap map_b,
                  KVANT_CONSTANT GemmLaunch launch) {
  unsigned char* const shared = device::shared_memory();
  float* const features = reinterpret_cast<float*>(shared + Tile::RingOf::kDataBytes);
  const std::uint32_t address = device::shared_address(shared);
  const typename Tile::RingOf ring{
      address,
      address + static_cast<std::uint32_t>(Tile::RingOf::kDataBytes + Tile::kFeatureBytes)};
  const int rank = Tile::kCluster == 1 ? 0 : device::cluster_rank();
  const WgmmaWork work = WgmmaWork::of<Tile>(launch.args);
  if (threadIdx.x == 0) ring.init(2 * Tile::kCluster);
  if constexpr (Tile::kCluster == 1) {
    device::block_barrier();
  } else {
    device::cluster_barrier();
  }
  device::let_next_kernel_start();
  if (threadIdx.x < 128) {
    device::fewer_registers<40>();
    if (threadIdx.x == 0) feed_tiles<Tile>(ring, map_a, map_b, work, rank);
  } else {
    device::more_registers<232>();
    device::wait_for_previous_kernel();
    multiply_tiles<Tile>(ring, launch, work, rank, features);
  }
  // Nobody leaves while the other sends to it.
  if constexpr (Tile::kCluster > 1) device::cluster_barrier();
}

// Blocks of 128 rows: the large ones in pairs.
using LargeWgmmaTile = WgmmaTile<256, 4, 2>;
using SmallWgmmaTile = WgmmaTile<128, 5, 1>;

template <class Tile>
void launch_gemm_wgmma(const GemmLaunch& g, int processors, void* queue) {
  constexpr int kRows = Tile::kBlockM * Tile::kCluster;
  const std::int64_t tiles = (g.args.m + kRows - 1) / kRows *
                             ((g.args.n + Tile::kBlockN - 1) / Tile::kBlockN) * Tile::kCluster;
  const std::int64_t room = processors / Tile::kCluster * Tile::kCluster;
  device::launch(
      {.grid = {static_cast<int>(tiles < room ? tiles : room), 1, 1},
       .threads = Tile::kThreads,
       .shared_bytes = Tile::kSharedBytes,
       .cluster = Tile::kCluster,
       .queue = queue},
      &gemm_wgmma_kernel<Tile>,
      device::tensor_map(g.args.a, g.args.k_padded, g.args.m, Tile::kBlockM),
      device::tensor_map(g.args.b, g.args.k_padded, g.args.n, Tile::kBlockN / Tile::kCluster), g);
}

}  // namespace
}  // namespace kvant
