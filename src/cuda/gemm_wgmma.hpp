#pragma once

// The int8 GEMM on Hopper (sm_90a), with the whole epilogue of LLM.int8(): one warp feeds the ring,
// two warpgroups multiply what has come by wgmma, 64 rows each. Two blocks of a cluster lie one
// below the other and share their columns of B: each loads half and sends it to both. Blocks stay
// for as many tiles as there are; the next tile's slices come during the epilogue.

#include "cuda/panel.hpp"
#include "cuda/stage_features.hpp"
#include "cuda/tile_order.hpp"
#include "cuda/wgmma_ring.hpp"

namespace kvant {
namespace {

template <int kN, int kStageCount, int kClusterBlocks, int kFeatureCount>
struct WgmmaTile {
  static constexpr int kBlockM = 128, kBlockN = kN;
  static constexpr int kCluster = kClusterBlocks;
  static constexpr int kThreads = 3 * 128;
  static constexpr int kBytesA = kBlockM * kSliceBytes, kBytesB = kBlockN * kSliceBytes;
  static constexpr int kStageBytes = kBytesA + kBytesB;
  using RingOf = Ring<kStageCount, kStageBytes>;
  /// The sums of a warpgroup leave in panels of 32 columns, which are 16 registers.
  static constexpr int kPanelColumns = 32, kPanelSums = 16;
  using Cut = PanelCut<128, 64, kPanelColumns>;
  static constexpr int kFeatures = kFeatureCount;  ///< outlier features staged at a time
  // In shared memory: the ring, the warpgroups' panels, x of features, w of features, barriers.
  static constexpr int kPanels = RingOf::kDataBytes;
  static constexpr int kFeatureX = kPanels + 2 * Cut::kBytes;
  static constexpr int kFeatureW = kFeatureX + kFeatures * kBlockM * 4;
  static constexpr int kBarriers = kFeatureW + kFeatures * kBlockN * 4;
  static constexpr int kSharedBytes = kBarriers + RingOf::kBarrierBytes;
  static_assert(kSharedBytes <= 227 << 10);
};

/// The tiles of one block, and the slices of K of each.
struct WgmmaWork {
  int tiles_m, tiles_n, slices;

  template <class Tile>
  KVANT_DEVICE static WgmmaWork of(const GemmArgs& g) {
    constexpr int kRows = Tile::kBlockM * Tile::kCluster;
    return {static_cast<int>((g.range.m + kRows - 1) / kRows),
            static_cast<int>((g.range.n + Tile::kBlockN - 1) / Tile::kBlockN),
            static_cast<int>(g.range.k_padded / kSliceBytes)};
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
  device::prefetch_map(map_a);
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

/// Registers [kPanelSums * panel, ...) of a warpgroup into its panel, with the panel's number known
/// at run time and the registers' when compiling.
template <class Tile>
KVANT_DEVICE void put_panel(int panel, const std::int32_t (&sums)[Tile::kBlockN / 2],
                            std::int32_t* to) {
  const int thread = static_cast<int>(threadIdx.x) % 128;
  to += (thread / 32 * 16 + thread % 32 / 4) * Tile::Cut::kStride + thread % 4 * 2;
#pragma unroll
  for (int p = 0; p < Tile::kBlockN / Tile::kPanelColumns; ++p) {
    if (p != panel) continue;
#pragma unroll
    for (int i = 0; i < Tile::kPanelSums; i += 2) {
      *reinterpret_cast<HalfWords*>(to + i / 2 % 2 * 8 * Tile::Cut::kStride + i / 4 * 8) = {
          {static_cast<std::uint32_t>(sums[p * Tile::kPanelSums + i]),
           static_cast<std::uint32_t>(sums[p * Tile::kPanelSums + i + 1])}};
    }
  }
}

/// What a thread wants of a tile's scales and bias, asked for before the products are there.
template <class Tile>
struct TileInputs {
  float row_scale[Tile::Cut::kThreadRows];
  FourColumns columns;  ///< of the first panel

  KVANT_DEVICE static int row(int r) {
    const int thread = static_cast<int>(threadIdx.x) % 128;
    return (static_cast<int>(threadIdx.x) / 128 - 1) * 64 + thread / Tile::Cut::kVectors +
           r * Tile::Cut::kRowStep;
  }
  KVANT_DEVICE static int column() {
    return static_cast<int>(threadIdx.x) % 128 % Tile::Cut::kVectors * 4;
  }
  KVANT_DEVICE void load(const GemmArgs& g, std::int64_t m0, std::int64_t n0) {
#pragma unroll
    for (int r = 0; r < Tile::Cut::kThreadRows; ++r) row_scale[r] = load_row_scale(g, m0 + row(r));
    columns = FourColumns::load(g, n0 + column());
  }
};

/// A tile's sums through the epilogue, by both warpgroups, which wait for each other only where
/// there are outlier features.
/// @param m0, n0  the block's tile
template <class Tile>
KVANT_DEVICE void finish_wgmma_tile(const GemmLaunch& launch, std::int64_t m0, std::int64_t n0,
                                    const std::int32_t (&sums)[Tile::kBlockN / 2],
                                    const TileInputs<Tile>& inputs) {
  using Cut = typename Tile::Cut;
  constexpr int kRows = Cut::kThreadRows, kPanels = Tile::kBlockN / Tile::kPanelColumns;
  const int half = static_cast<int>(threadIdx.x) / 128 - 1;
  unsigned char* const shared = device::shared_memory();
  auto* const panel = reinterpret_cast<std::int32_t*>(shared + Tile::kPanels + half * Cut::kBytes);
  auto* const xs = reinterpret_cast<float*>(shared + Tile::kFeatureX);
  auto* const ws = reinterpret_cast<float*>(shared + Tile::kFeatureW);
  const int column = inputs.column();
  int rows[kRows];  // of the tile
#pragma unroll
  for (int r = 0; r < kRows; ++r) rows[r] = inputs.row(r);
  FourColumns next = inputs.columns;
  const bool sums_only = launch.args.epilogue.y_dtype == DType::int32;
  const std::int64_t count = sums_only ? 0 : count_of_features(launch.args);
#pragma unroll 1
  for (int p = 0; p < kPanels; ++p) {
    const std::int64_t n = n0 + p * Tile::kPanelColumns + column;
    const FourColumns columns = next;
    if (p + 1 < kPanels) next = FourColumns::load(launch.args, n + Tile::kPanelColumns);
    put_panel<Tile>(p, sums, panel);
    float outliers[kRows][4] = {};
    for (std::int64_t first = 0; first < count; first += Tile::kFeatures) {
      const std::int64_t left = count - first;
      const int piece = left < Tile::kFeatures ? static_cast<int>(left) : Tile::kFeatures;
      const bool all = count <= Tile::kFeatures;  // then the whole tile's at once
      if (!all || p == 0) {
        const int consumer = static_cast<int>(threadIdx.x) - 128;
        device::named_barrier(1, 256);
        if (all) {
          stage_features<256, Tile::kBlockM, Tile::kBlockN>(launch.args, consumer, first, piece, xs,
                                                            m0, ws, Tile::kBlockN, n0);
        } else {
          const int from = p * Tile::kPanelColumns;
          stage_features<256, Tile::kBlockM, Tile::kPanelColumns>(
              launch.args, consumer, first, piece, xs, m0, ws + from, Tile::kBlockN, n0 + from);
        }
        device::named_barrier(1, 256);
      }
      add_features(outliers, xs, Tile::kBlockM, rows, ws + p * Tile::kPanelColumns + column,
                   Tile::kBlockN, piece);
    }
    device::named_barrier(2 + half, 128);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      std::int32_t acc[4];
      load_four(panel + (rows[r] - half * 64) * Cut::kStride + column, acc);
      finish_four(launch, m0 + rows[r], n, inputs.row_scale[r], columns, acc, count > 0,
                  outliers[r]);
    }
    device::named_barrier(2 + half, 128);
  }
}

/// Multiplies what comes through the ring: one warpgroup, the rows of its half of the tile.
template <class Tile>
KVANT_DEVICE void multiply_tiles(const typename Tile::RingOf& ring, const GemmLaunch& launch,
                                 const WgmmaWork& work, int rank) {
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
    const TileAt tile = tile_at(index, work.tiles_m, work.tiles_n);
    const std::int64_t m0 = (std::int64_t{tile.m} * Tile::kCluster + rank) * Tile::kBlockM;
    const std::int64_t n0 = std::int64_t{tile.n} * Tile::kBlockN;
    TileInputs<Tile> inputs;
    inputs.load(launch.args, m0, n0);
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
    finish_wgmma_tile<Tile>(launch, m0, n0, sums, inputs);
  }
}

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_wgmma_kernel(KVANT_CONSTANT device::TensorMap map_a, KVANT_CONSTANT device::TensorMap map_b,
                  KVANT_CONSTANT GemmLaunch launch) {
  const std::uint32_t shared = device::shared_address(device::shared_memory());
  const typename Tile::RingOf ring{shared, shared + Tile::kBarriers};
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
    multiply_tiles<Tile>(ring, launch, work, rank);
  }
  // Nobody leaves while the other sends to it.
  if constexpr (Tile::kCluster > 1) device::cluster_barrier();
}

// Blocks of 128 rows: the large ones in pairs.
using LargeWgmmaTile = WgmmaTile<256, 4, 2, 8>;
using SmallWgmmaTile = WgmmaTile<128, 5, 1, 16>;

template <class Tile>
void launch_gemm_wgmma(const GemmLaunch& g, int processors, void* queue) {
  constexpr int kRows = Tile::kBlockM * Tile::kCluster;
  const std::int64_t tiles = (g.args.range.m + kRows - 1) / kRows *
                             ((g.args.range.n + Tile::kBlockN - 1) / Tile::kBlockN) *
                             Tile::kCluster;
  const std::int64_t room = processors / Tile::kCluster * Tile::kCluster;
  device::launch({.grid = {static_cast<int>(tiles < room ? tiles : room), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .cluster = Tile::kCluster,
                  .queue = queue},
                 &gemm_wgmma_kernel<Tile>,
                 device::tensor_map(g.args.a, g.args.range.k_padded, g.args.range.m, Tile::kBlockM),
                 device::tensor_map(g.args.b, g.args.range.k_padded, g.args.range.n,
                                    Tile::kBlockN / Tile::kCluster),
                 g);
}

}  // namespace
}  // namespace kvant
