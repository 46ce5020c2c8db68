#pragma once

// The int8 product for up to 8 rows of activations, for every GPU from sm_80 on: weights stream
// past once, straight from memory into registers. The roles are swapped (16 outputs are the rows of
// an mma, the activations its columns), and both operands take K in the same order of 16 bytes a
// lane, so that every load is 16 bytes; the order of K does not matter to a sum of integers. The
// warps of a block share K, so that a small layer still fills the device.

#include "cuda/epilogue.hpp"

namespace kvant {
namespace {

/// @tparam kOutputTiles  tiles of 16 outputs of a warp, which share its activations
template <int kOutputTiles>
struct DecodeTile {
  static constexpr int kTiles = kOutputTiles;
  static constexpr int kWarps = 8, kThreads = kWarps * 32;
  static constexpr int kOutputs = 16 * kTiles;                    ///< of a block
  static constexpr int kChunk = 64;                               ///< bytes of K of a warp's step
  static constexpr int kUnroll = 8 / kTiles;                      ///< steps whose loads go together
  static constexpr int kSharedBytes = kWarps * kOutputs * 8 * 4;  ///< partial sums
};

template <class Tile>
KVANT_KERNEL(Tile::kThreads, 2)
decode_kernel(KVANT_CONSTANT GemmLaunch launch) {
  const GemmArgs& g = launch.args;
  const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
  const std::int64_t n0 = std::int64_t{blockIdx.x} * Tile::kOutputs;
  const int row = lane / 4, part = lane % 4 * 16;
  const std::int8_t* weights[Tile::kTiles][2];
#pragma unroll
  for (int t = 0; t < Tile::kTiles; ++t) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t n = n0 + t * 16 + half * 8 + row;
      weights[t][half] = static_cast<const std::int8_t*>(g.b) +
                         (n < g.range.n ? n : g.range.n - 1) * g.range.k_padded + part;
    }
  }
  const bool has_row = row < g.range.m;
  const auto* const x =
      static_cast<const std::int8_t*>(g.a) + (has_row ? row : 0) * g.range.k_padded + part;
  const auto chunks = static_cast<int>(g.range.k_padded / Tile::kChunk);
  std::int32_t sums[Tile::kTiles][4] = {};
  device::let_next_kernel_start();
  for (int first = warp; first < chunks; first += Tile::kWarps * Tile::kUnroll) {
    device::Words4 a[Tile::kUnroll][Tile::kTiles][2], b[Tile::kUnroll];
#pragma unroll
    for (int u = 0; u < Tile::kUnroll; ++u) {
      const int chunk = first + u * Tile::kWarps;
      const int k = (chunk < chunks ? chunk : first) * Tile::kChunk;
#pragma unroll
      for (int t = 0; t < Tile::kTiles; ++t) {
        a[u][t][0] = device::load_stream(weights[t][0] + k);
        a[u][t][1] = device::load_stream(weights[t][1] + k);
      }
    }
    // The first weights come while the kernel in front makes the activations.
    if (first == warp) device::wait_for_previous_kernel();
#pragma unroll
    for (int u = 0; u < Tile::kUnroll; ++u) {
      const int chunk = first + u * Tile::kWarps;
      b[u] = {};
      if (has_row && chunk < chunks) {
        b[u] = *reinterpret_cast<const device::Words4*>(x + chunk * Tile::kChunk);
      }
    }
#pragma unroll
    for (int u = 0; u < Tile::kUnroll; ++u) {
#pragma unroll
      for (int t = 0; t < Tile::kTiles; ++t) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const std::uint32_t av[4] = {a[u][t][0].w[half * 2], a[u][t][1].w[half * 2],
                                       a[u][t][0].w[half * 2 + 1], a[u][t][1].w[half * 2 + 1]};
          device::mma_s8(sums[t], av, b[u].w[half * 2], b[u].w[half * 2 + 1]);
        }
      }
    }
  }
  device::wait_for_previous_kernel();  // warps without a chunk
  auto* const partial = reinterpret_cast<std::int32_t*>(device::shared_memory());
#pragma unroll
  for (int t = 0; t < Tile::kTiles; ++t) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const int output = t * 16 + row + e / 2 * 8, m = lane % 4 * 2 + e % 2;
      partial[(warp * 8 + m) * Tile::kOutputs + output] = sums[t][e];
    }
  }
  device::block_barrier();
  const std::int64_t features =
      g.epilogue.y_dtype == DType::int32 ? 0 : count_of_features(launch.args);
  for (int i = static_cast<int>(threadIdx.x); i < 8 * Tile::kOutputs; i += Tile::kThreads) {
    const int m = i / Tile::kOutputs, output = i % Tile::kOutputs;
    if (m >= g.range.m || n0 + output >= g.range.n) continue;
    std::uint32_t sum = 0;  // wraps, as the products do
    for (int w = 0; w < Tile::kWarps; ++w) {
      sum += static_cast<std::uint32_t>(partial[(w * 8 + m) * Tile::kOutputs + output]);
    }
    float outliers = 0.0f;
    for (std::int64_t f = 0; f < features; ++f) {
      outliers = device::fused_multiply_add(
          feature_activation(launch.args, f, m),
          feature_weight<Int8Weights>(launch.args, f, n0 + output), outliers);
    }
    store_result(g.epilogue, m, n0 + output, static_cast<std::int32_t>(sum), features > 0,
                 outliers);
  }
}

template <class Tile>
void launch_decode(const GemmLaunch& g, void* queue) {
  device::launch(
      {.grid = {static_cast<int>((g.args.range.n + Tile::kOutputs - 1) / Tile::kOutputs), 1, 1},
       .threads = Tile::kThreads,
       .shared_bytes = Tile::kSharedBytes,
       .queue = queue},
      &decode_kernel<Tile>, g);
}

}  // namespace
}  // namespace kvant
