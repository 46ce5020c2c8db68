#pragma once

// Products of weights in GroupPanels, whatever their codes, scales and offsets: 4 to 8 bits, groups
// of 16 and more. A warp makes one output for up to 8 rows of activations, each lane the integer
// sums of a part of K that lies in one group, four codes an instruction; they go through shared
// memory to the lanes that add groups as floats, in ascending order. No matrix units: formats that
// are to be fast with many rows have kernels of their own (gemm_nibbles.hpp).

#include "cuda/epilogue.hpp"
#include "cuda/group_codes.hpp"

namespace kvant {
namespace {

struct GroupTile {
  static constexpr int kWarps = 8, kThreads = kWarps * 32;  ///< a warp an output
  static constexpr int kRows = 8;                           ///< of activations
  static constexpr int kRowStride = kRows + 1;  ///< words: the lanes' rows in different banks
  /// Of a warp: sums, sums of activations, scales, offsets of 32 parts.
  static constexpr int kWarpWords = 32 * (2 * kRowStride + 2);
  static constexpr int kSharedBytes = 2 * kWarps * kWarpWords * 4;  ///< of two passes
};

/// A warp's results of a pass.
struct GroupPass {
  std::int32_t* sums;    ///< [32][kRowStride]
  std::int32_t* a_sums;  ///< the same, of the activations
  float* scales;         ///< [32]
  float* offsets;        ///< [32]

  KVANT_DEVICE static GroupPass at(int pass, int warp) {
    auto* const sums = reinterpret_cast<std::int32_t*>(device::shared_memory()) +
                       (pass % 2 * GroupTile::kWarps + warp) * GroupTile::kWarpWords;
    std::int32_t* const a_sums = sums + 32 * GroupTile::kRowStride;
    auto* const scales = reinterpret_cast<float*>(a_sums + 32 * GroupTile::kRowStride);
    return {sums, a_sums, scales, scales + 32};
  }
};

/// A lane's part of a pass: k to k + length, a multiple of 16.
/// @param x  the first row of activations  @param there  rows of them
KVANT_DEVICE void multiply_part(const GroupRows& rows, const unsigned char* weights,
                                const unsigned char* x, std::int64_t x_stride, int there, int k,
                                int length, int lane, const GroupPass& pass) {
  constexpr int kRows = GroupTile::kRows;
  std::int32_t sums[kRows] = {}, a_sums[kRows] = {};
  for (int i = 0; i < length; i += 16) {
    const NibblePair first = rows.integers(weights, k + i);
    const NibblePair second = rows.integers(weights, k + i + 8);
#pragma unroll
    for (int m = 0; m < kRows; ++m) {
      if (m >= there) continue;
      const auto a = *reinterpret_cast<const device::Words4*>(x + m * x_stride + k + i);
      sums[m] = device::dot_s8(first.low, a.w[0], sums[m]);
      sums[m] = device::dot_s8(first.high, a.w[1], sums[m]);
      sums[m] = device::dot_s8(second.low, a.w[2], sums[m]);
      sums[m] = device::dot_s8(second.high, a.w[3], sums[m]);
      if (!rows.offsets) continue;
#pragma unroll
      for (int word = 0; word < 4; ++word) {
        a_sums[m] = device::dot_s8(0x01010101u, a.w[word], a_sums[m]);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < kRows; ++m) {
    pass.sums[lane * GroupTile::kRowStride + m] = sums[m];
    pass.a_sums[lane * GroupTile::kRowStride + m] = a_sums[m];
  }
  pass.scales[lane] = rows.scale(weights, k);
  pass.offsets[lane] = rows.offsets ? rows.offset(weights, k) : 0.0f;
}

KVANT_KERNEL(GroupTile::kThreads, 2) gemm_groups_kernel(KVANT_CONSTANT GemmLaunch launch) {
  using Tile = GroupTile;
  const GemmArgs& g = launch.args;
  const GroupRows rows = GroupRows::of(g);
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  // Blocks with the same outputs follow each other: they read the same weights.
  const auto blocks_m = static_cast<int>((g.range.m + Tile::kRows - 1) / Tile::kRows);
  const auto block = static_cast<int>(blockIdx.x);
  const std::int64_t n = std::int64_t{block / blocks_m} * Tile::kWarps + warp;
  const std::int64_t m0 = std::int64_t{block % blocks_m} * Tile::kRows;
  const std::int64_t m_left = g.range.m - m0;
  const int there = m_left < Tile::kRows ? static_cast<int>(m_left) : Tile::kRows;
  const unsigned char* const weights = rows.row(n < g.range.n ? n : g.range.n - 1);
  const auto* const x = static_cast<const unsigned char*>(g.a) + m0 * g.range.k_padded;
  const auto k_padded = static_cast<int>(g.range.k_padded);
  const int length = rows.group % 32 == 0 ? 32 : 16;
  const int parts = k_padded / length;
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  float sum = 0.0f;
  std::uint32_t integers = 0, activations = 0;  // of the group so far; wrap, as products do
  int left = rows.group;
  for (int first = 0, number = 0; first < parts; first += 32, ++number) {
    const GroupPass pass = GroupPass::at(number, warp);
    if (first + lane < parts) {
      multiply_part(rows, weights, x, g.range.k_padded, there, (first + lane) * length, length,
                    lane, pass);
    }
    device::block_barrier();  // the warp's sums are there; those of the pass before are used
    if (lane >= there) continue;
    const int count = parts - first < 32 ? parts - first : 32;
    for (int part = 0; part < count; ++part) {
      integers += static_cast<std::uint32_t>(pass.sums[part * Tile::kRowStride + lane]);
      activations += static_cast<std::uint32_t>(pass.a_sums[part * Tile::kRowStride + lane]);
      left -= length;
      if (left > 0 && first + part != parts - 1) continue;  // the last group may be short
      sum = device::fused_multiply_add(static_cast<float>(static_cast<std::int32_t>(integers)),
                                       pass.scales[part], sum);
      if (rows.offsets) {
        sum = device::fused_multiply_add(static_cast<float>(static_cast<std::int32_t>(activations)),
                                         pass.offsets[part], sum);
      }
      integers = activations = 0;
      left = rows.group;
    }
  }
  if (lane >= there || n >= g.range.n) return;
  const std::int64_t m = m0 + lane, features = count_of_features(launch.args);
  float outliers = 0.0f;
  for (std::int64_t f = 0; f < features; ++f) {
    outliers =
        device::fused_multiply_add(feature_activation(launch.args, f, m),
                                   feature_weight<GroupWeights>(launch.args, f, n), outliers);
  }
  store_result(g.epilogue, m, n, sum, features > 0, outliers);
}

inline void launch_gemm_groups(const GemmLaunch& g, void* queue) {
  using Tile = GroupTile;
  const std::int64_t blocks_n = (g.args.range.n + Tile::kWarps - 1) / Tile::kWarps;
  const std::int64_t blocks_m = (g.args.range.m + Tile::kRows - 1) / Tile::kRows;
  device::launch({.grid = {static_cast<int>(blocks_n * blocks_m), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .queue = queue},
                 &gemm_groups_kernel, g);
}

}  // namespace
}  // namespace kvant
