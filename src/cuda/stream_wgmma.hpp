#pragma once

// The int8 product of few rows on Hopper (sm_90a): the weights stream past once, 64 outputs a
// block, and are the rows of a wgmma; the activations, a multiple of 8 rows, are its columns. Where
// there are fewer blocks than processors want, the blocks of a cluster share K and add their sums
// through each other's shared memory. One thread feeds the ring; its first weights come before the
// kernel in front has made the activations.

#include "cuda/panel.hpp"
#include "cuda/stage_features.hpp"
#include "cuda/wgmma_ring.hpp"

namespace kvant {
namespace {

template <int kTokenRows, int kStageCount>
struct StreamTile {
  static constexpr int kTokens = kTokenRows, kOutputs = 64;
  static constexpr int kThreads = 128 + 32;
  static constexpr int kBytesW = kOutputs * kSliceBytes, kBytesX = kTokens * kSliceBytes;
  static constexpr int kStageBytes = kBytesW + kBytesX;
  using RingOf = Ring<kStageCount, kStageBytes>;
  // The sums leave in one panel, rows of activations by outputs, where the ring was.
  static constexpr int kThreadRows = kTokens < 32 ? kTokens / 8 : 4;
  using Cut = PanelCut<128, kThreadRows * 8, kOutputs>;
  static constexpr int kFeatures = 16;  ///< outlier features staged at a time
  // In shared memory: the ring, x of features, w of features, barriers.
  static constexpr int kFeatureX = RingOf::kDataBytes;
  static constexpr int kFeatureW = kFeatureX + kFeatures * kTokens * 4;
  static constexpr int kBarriers = kFeatureW + kFeatures * kOutputs * 4;
  static constexpr int kSharedBytes = kBarriers + RingOf::kBarrierBytes;
  static_assert(kTokens * Cut::kStride * 4 <= RingOf::kDataBytes);
};

/// The slices of K of one block of a cluster.
struct StreamWork {
  int begin, end;

  KVANT_DEVICE static StreamWork of(const GemmArgs& g, int rank, int split) {
    const auto slices = static_cast<int>(g.range.k_padded / kSliceBytes);
    return {slices * rank / split, slices * (rank + 1) / split};
  }
};

template <class Tile>
KVANT_DEVICE void feed_stream(const typename Tile::RingOf& ring, const device::TensorMap& map_w,
                              const device::TensorMap& map_x, StreamWork work, int n0) {
  const int uses = work.end - work.begin;
  const auto load_w = [&](int use) {
    device::barrier_arrive_expect(ring.full(use), Tile::kStageBytes);
    device::tensor_load(ring.stage(use), map_w, ring.full(use), (work.begin + use) * kSliceBytes,
                        n0);
  };
  const auto load_x = [&](int use) {
    device::tensor_load(ring.stage(use) + Tile::kBytesW, map_x, ring.full(use),
                        (work.begin + use) * kSliceBytes, 0);
  };
  device::prefetch_map(map_x);
  const int ahead = uses < Tile::RingOf::kStages ? uses : Tile::RingOf::kStages;
  for (int use = 0; use < ahead; ++use) load_w(use);
  device::wait_for_previous_kernel();
  for (int use = 0; use < ahead; ++use) load_x(use);
  for (int use = ahead; use < uses; ++use) {
    ring.wait_empty(use);
    load_w(use);
    load_x(use);
  }
}

/// Outlier features [first, first + count) into shared memory.
template <class Tile>
KVANT_DEVICE void stage_stream_features(const GemmLaunch& launch, std::int64_t n0,
                                        std::int64_t first, int count) {
  unsigned char* const shared = device::shared_memory();
  stage_features<128, Tile::kTokens, Tile::kOutputs>(
      launch.args, static_cast<int>(threadIdx.x), first, count,
      reinterpret_cast<float*>(shared + Tile::kFeatureX), 0,
      reinterpret_cast<float*>(shared + Tile::kFeatureW), Tile::kOutputs, n0);
}

/// The sums of rows [begin, end) over all blocks of the cluster, through the epilogue to y.
template <class Tile>
KVANT_DEVICE void finish_stream(const GemmLaunch& launch, std::int64_t n0, int begin, int end,
                                int split, std::int64_t count, const FourColumns& columns) {
  using Cut = typename Tile::Cut;
  constexpr int kRows = Cut::kThreadRows;
  const auto thread = static_cast<int>(threadIdx.x);
  const int vector = thread % Cut::kVectors;
  const std::int64_t n = n0 + vector * 4;
  unsigned char* const shared = device::shared_memory();
  const auto* const xs = reinterpret_cast<const float*>(shared + Tile::kFeatureX);
  const auto* const ws = reinterpret_cast<const float*>(shared + Tile::kFeatureW) + vector * 4;
  const std::uint32_t own = device::shared_address(shared);
#pragma unroll 1
  for (int m0 = begin; m0 < end; m0 += kRows * Cut::kRowStep) {
    int rows[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const int m = m0 + thread / Cut::kVectors + r * Cut::kRowStep;
      rows[r] = m < end ? m : end - 1;
    }
    float row_scales[kRows];
#pragma unroll
    for (int r = 0; r < kRows; ++r) row_scales[r] = load_row_scale(launch.args, rows[r]);
    float outliers[kRows][4] = {};
    for (std::int64_t first = 0; first < count; first += Tile::kFeatures) {
      const std::int64_t left = count - first;
      const int piece = left < Tile::kFeatures ? static_cast<int>(left) : Tile::kFeatures;
      if (count > Tile::kFeatures) {  // otherwise they are there
        device::named_barrier(1, 128);
        stage_stream_features<Tile>(launch, n0, first, piece);
        device::named_barrier(1, 128);
      }
      add_features(outliers, xs, Tile::kTokens, rows, ws, Tile::kOutputs, piece);
    }
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (m0 + thread / Cut::kVectors + r * Cut::kRowStep >= end) continue;
      std::uint32_t words[4] = {};
      for (int rank = 0; rank < split; ++rank) {
        const std::uint32_t at = device::address_in_cluster(
            own + static_cast<std::uint32_t>((rows[r] * Cut::kStride + vector * 4) * 4), rank);
        const device::Words4 there = device::load_cluster(at);
#pragma unroll
        for (int i = 0; i < 4; ++i) words[i] += there.w[i];
      }
      std::int32_t sums[4];
#pragma unroll
      for (int i = 0; i < 4; ++i) sums[i] = static_cast<std::int32_t>(words[i]);
      finish_four(launch, rows[r], n, row_scales[r], columns, sums, count > 0, outliers[r]);
    }
  }
}

template <class Tile>
KVANT_DEVICE void multiply_stream(const typename Tile::RingOf& ring, StreamWork work,
                                  std::int32_t* partial) {
  const auto thread = static_cast<int>(threadIdx.x);
  std::int32_t sums[Tile::kTokens / 2];
#pragma unroll
  for (int i = 0; i < Tile::kTokens / 2; ++i) sums[i] = 0;
  const int uses = work.end - work.begin;
  for (int use = 0; use < uses; ++use) {
    ring.wait_full(use);
    const std::uint64_t w = device::wgmma_operand(ring.stage(use));
    const std::uint64_t x = device::wgmma_operand(ring.stage(use) + Tile::kBytesW);
    device::wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSliceBytes / 32; ++step) {
      const auto along = static_cast<std::uint64_t>(step * 2);
      device::wgmma_s8(sums, w + along, x + along, 1);
    }
    device::wgmma_commit();
    device::wgmma_wait<1>();
    if (use > 0 && thread == 0) device::barrier_arrive(ring.empty(use - 1));
  }
  device::wgmma_wait<0>();
  // The ring is empty now, and every copy into it has been waited for.
  const int row = thread / 32 * 16 + thread % 32 / 4, column = thread % 4 * 2;
#pragma unroll
  for (int i = 0; i < Tile::kTokens / 2; ++i) {
    const int output = row + i / 2 % 2 * 8, m = column + i / 4 * 8 + i % 2;
    partial[m * Tile::Cut::kStride + output] = sums[i];
  }
}

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 1)
stream_wgmma_kernel(KVANT_CONSTANT device::TensorMap map_w, KVANT_CONSTANT device::TensorMap map_x,
                    KVANT_CONSTANT GemmLaunch launch, int split) {
  const GemmArgs& g = launch.args;
  const std::uint32_t shared = device::shared_address(device::shared_memory());
  const typename Tile::RingOf ring{shared, shared + Tile::kBarriers};
  const int rank = split == 1 ? 0 : device::cluster_rank();
  const std::int64_t n0 = std::int64_t{blockIdx.x} / split * Tile::kOutputs;
  const StreamWork work = StreamWork::of(g, rank, split);
  if (threadIdx.x == 128) ring.init(1);
  device::block_barrier();
  device::let_next_kernel_start();
  std::int64_t count = 0;
  FourColumns columns{};
  if (threadIdx.x == 128) {
    feed_stream<Tile>(ring, map_w, map_x, work, static_cast<int>(n0));
  } else if (threadIdx.x < 128) {
    device::wait_for_previous_kernel();
    columns = FourColumns::load(g, n0 + static_cast<int>(threadIdx.x) % Tile::Cut::kVectors * 4);
    count = g.epilogue.y_dtype == DType::int32 ? 0 : count_of_features(launch.args);
    if (count > 0 && count <= Tile::kFeatures) {  // while the weights come
      stage_stream_features<Tile>(launch, n0, 0, static_cast<int>(count));
    }
    multiply_stream<Tile>(ring, work, reinterpret_cast<std::int32_t*>(device::shared_memory()));
  }
  if (split > 1) {
    device::cluster_barrier();
  } else {
    device::block_barrier();
  }
  if (threadIdx.x < 128) {
    const auto m = static_cast<int>(g.range.m);
    finish_stream<Tile>(launch, n0, m * rank / split, m * (rank + 1) / split, split, count,
                        columns);
  }
  if (split > 1) device::cluster_barrier();  // nobody leaves while another reads its sums
}

/// Blocks of a cluster that share K: where the tiles leave processors without work, as many as make
/// one or two blocks a processor, as long as each has something to do. (Larger clusters find room
/// for one block a processor only.)
inline int stream_split(std::int64_t n, std::int64_t k_padded, int processors) noexcept {
  const std::int64_t tiles = (n + 63) / 64, slices = k_padded / kSliceBytes;
  int split = 1;
  while (split < 8 && slices >= split * 8) {
    const std::int64_t blocks = tiles * split * 2;
    if (blocks > (split == 1 ? 2 : 1) * std::int64_t{processors}) break;
    split *= 2;
  }
  return split;
}

template <class Tile>
void launch_stream_wgmma(const GemmLaunch& g, int split, void* queue) {
  const std::int64_t tiles = (g.args.range.n + Tile::kOutputs - 1) / Tile::kOutputs;
  device::launch(
      {.grid = {static_cast<int>(tiles * split), 1, 1},
       .threads = Tile::kThreads,
       .shared_bytes = Tile::kSharedBytes,
       .cluster = split,
       .queue = queue},
      &stream_wgmma_kernel<Tile>,
      device::tensor_map(g.args.b, g.args.range.k_padded, g.args.range.n, Tile::kOutputs),
      device::tensor_map(g.args.a, g.args.range.k_padded, g.args.range.m, Tile::kTokens), g, split);
}

}  // namespace
}  // namespace kvant
