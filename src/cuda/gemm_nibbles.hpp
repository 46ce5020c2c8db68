#pragma once

// The GEMM of 4-bit weights by mma.sync, a block a tile, with the whole epilogue of LLM.int8().
// cp.async brings slices of 128 k into a ring: codes of activations, which ldmatrix takes to
// registers, and packed weights, of which 16 bytes are a lane's share of four products
// (NibblePanels with kr = 32); they become bytes in registers. Scales and zero points of the next
// slice are asked for before a slice is multiplied and put into shared memory after it.
//
// Where a group of k ends, its integer sums become floats and are added by one fma with the group's
// scale. Conversion instructions are slow, so sums of groups that are not long begin at the bits of
// 1.5 * 2^23: sum and bits together are the float 1.5 * 2^23 + sum, exactly.

#include "cuda/mma_epilogue.hpp"
#include "cuda/nibble_codes.hpp"
#include "cuda/tile_order.hpp"

namespace kvant {
namespace {

template <int kM, int kN, int kWarpsM, int kWarpsN, int kRing>
struct NibbleMmaTile : MmaTile<kM, kN, kWarpsM, kWarpsN, kRing> {
  static constexpr int kRuns = kNibbleChunk / kNibbleRun;  ///< of a slice
  static constexpr int kRowBytes = kNibbleChunk, kCodeBytes = kNibbleChunk / 2;
  static constexpr int kStageBytes = kM * kRowBytes + kN * kCodeBytes;
  /// Scale and zero point of each run and column, of two slices.
  static constexpr int kScalesAt = kRing * kStageBytes;
  static constexpr int kScaleWords = kRuns * kN;
  static constexpr int kSharedBytes = kScalesAt + 2 * 2 * kScaleWords * 4;
};

// 80 KiB, so that every processor from sm_80 on has room for one, most for two.
using LargeNibbleTile = NibbleMmaTile<128, 128, 2, 4, 3>;
using SmallNibbleTile = NibbleMmaTile<64, 64, 2, 2, 3>;

/// Integer sums of a group that become floats without a conversion, if they stay below 2^22.
struct GroupSums {
  static constexpr std::int32_t kBits = 0x4B400000;  ///< of 1.5 * 2^23
  bool is_small;

  /// |code - zero| is at most 64, activations are at most 127.
  KVANT_DEVICE static GroupSums of(std::uint32_t group) { return {group <= 512}; }
  KVANT_DEVICE std::int32_t start() const { return is_small ? kBits : 0; }
  KVANT_DEVICE float value(std::int32_t sum) const {
    return is_small ? device::add(device::bits_float(static_cast<std::uint32_t>(sum)), -12582912.0f)
                    : static_cast<float>(sum);
  }
};

/// The scales and zeros of a slice on their way from memory to shared memory.
template <class Tile, class Codes>
struct NibbleScales {
  static constexpr int kCount = Tile::kScaleWords / Tile::kThreads;  ///< of a thread
  static_assert(Tile::kScaleWords % Tile::kThreads == 0);
  float scales[kCount];
  std::uint32_t zeros[kCount];

  KVANT_DEVICE static float* scales_at(int slice) {
    return reinterpret_cast<float*>(device::shared_memory() + Tile::kScalesAt) +
           slice % 2 * 2 * Tile::kScaleWords;
  }
  KVANT_DEVICE static std::uint32_t* zeros_at(int slice) {
    return reinterpret_cast<std::uint32_t*>(scales_at(slice) + Tile::kScaleWords);
  }
  KVANT_DEVICE void load(const NibbleRows& rows, std::int64_t n0, int columns, int slice) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * Tile::kThreads;
      const int column = at % Tile::kBlockN, run = at / Tile::kBlockN;
      const unsigned char* const row = rows.row(n0 + (column < columns ? column : 0));
      const std::uint32_t group = rows.group_of(slice * kNibbleChunk + run * kNibbleRun);
      scales[i] = Codes::scale(rows.scale(row, group));
      zeros[i] = rows.zero(row, group, Codes::kZero);
    }
  }
  KVANT_DEVICE void store(int slice) const {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int at = static_cast<int>(threadIdx.x) + i * Tile::kThreads;
      scales_at(slice)[at] = Codes::product_scale(scales[i]);
      if constexpr (Codes::kZero != 0) zeros_at(slice)[at] = zeros[i] * 0x01010101u;
    }
  }
};

/// One slice's rows of activations and of packed weights into a stage of the ring.
template <class Tile>
KVANT_DEVICE void load_nibble_slice(std::uint32_t to, const unsigned char* a, std::int64_t a_bytes,
                                    int rows, const unsigned char* b, std::int64_t b_bytes,
                                    int columns) {
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kBlockM * 8; i += Tile::kThreads) {
    const int row = i / 8, chunk = i % 8;
    const bool inside = row < rows;
    device::copy_async_16(to + static_cast<std::uint32_t>(swizzled_128(row, chunk)),
                          a + (inside ? row : 0) * a_bytes + chunk * 16, inside ? 16 : 0);
  }
  to += Tile::kBlockM * Tile::kRowBytes;
  for (int i = static_cast<int>(threadIdx.x); i < Tile::kBlockN * 4; i += Tile::kThreads) {
    const int column = i / 4, chunk = i % 4;
    const bool inside = column < columns;
    device::copy_async_16(to + static_cast<std::uint32_t>(i * 16),
                          b + (inside ? column : 0) * b_bytes + chunk * 16, inside ? 16 : 0);
  }
}

/// sums += those of one group, which begin anew.
template <class Tile>
KVANT_DEVICE void add_group(const GroupSums& kind, const float* scales,
                            std::int32_t (&group)[Tile::kTilesM][Tile::kTilesN][4],
                            float (&sums)[Tile::kTilesM][Tile::kTilesN][4]) {
#pragma unroll
  for (int j = 0; j < Tile::kTilesN; ++j) {
    const float* const of_columns = scales + Tile::first_column() + j * 8;
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float scale = of_columns[e % 2];
#pragma unroll
      for (int i = 0; i < Tile::kTilesM; ++i) {
        sums[i][j][e] =
            device::fused_multiply_add(kind.value(group[i][j][e]), scale, sums[i][j][e]);
        group[i][j][e] = kind.start();
      }
    }
  }
}

/// sums = the tile's, the groups' scales in them. @param rows, columns  how many there are
template <class Tile, class Codes>
KVANT_DEVICE void multiply_nibbles(const GemmArgs& g, std::int64_t m0, std::int64_t n0, int rows,
                                   int columns, float (&sums)[Tile::kTilesM][Tile::kTilesN][4]) {
  const NibbleRows weights = NibbleRows::of(g);
  const auto* const a = static_cast<const unsigned char*>(g.a) + m0 * g.range.k_padded;
  const unsigned char* const b = weights.row(n0);
  const std::uint32_t ring = device::shared_address(device::shared_memory());
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const auto slices = static_cast<int>(g.range.k_padded / kNibbleChunk);
  const auto load = [&](int slice) {
    if (slice < slices) {
      const int stage = slice % Tile::kStages;
      load_nibble_slice<Tile>(ring + static_cast<std::uint32_t>(stage * Tile::kStageBytes),
                              a + slice * Tile::kRowBytes, g.range.k_padded, rows,
                              b + slice * Tile::kCodeBytes, weights.row_bytes, columns);
    }
    device::copy_async_commit();
  };
  for (int slice = 0; slice < Tile::kStages - 1; ++slice) load(slice);
  NibbleScales<Tile, Codes> scales;
  if (slices > 0) {
    scales.load(weights, n0, columns, 0);
    scales.store(0);
  }
  const GroupSums kind = GroupSums::of(weights.group);
  std::int32_t group[Tile::kTilesM][Tile::kTilesN][4];
#pragma unroll
  for (int i = 0; i < Tile::kTilesM; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::kTilesN; ++j) {
#pragma unroll
      for (int e = 0; e < 4; ++e) group[i][j][e] = kind.start();
    }
  }
  const int runs_of_group = static_cast<int>(weights.group) / kNibbleRun;
  int runs_left = runs_of_group;
  for (int slice = 0; slice < slices; ++slice) {
    device::copy_async_wait<Tile::kStages - 2>();
    device::block_barrier();  // everyone's part has come, and everyone is done with the oldest
    load(slice + Tile::kStages - 1);
    const bool has_next = slice + 1 < slices;
    if (has_next) scales.load(weights, n0, columns, slice + 1);
    const int at_a = slice % Tile::kStages * Tile::kStageBytes;
    const unsigned char* const at_b =
        device::shared_memory() + at_a + Tile::kBlockM * Tile::kRowBytes;
    device::Words4 codes[Tile::kTilesN];
#pragma unroll
    for (int j = 0; j < Tile::kTilesN; ++j) {
      const int column = Tile::warp_column() + j * 8 + lane / 4;
      codes[j] = *reinterpret_cast<const device::Words4*>(at_b + column * Tile::kCodeBytes +
                                                          lane % 4 * 16);
    }
#pragma unroll
    for (int run = 0; run < Tile::kRuns; ++run) {
      std::uint32_t av[Tile::kTilesM][4];
#pragma unroll
      for (int i = 0; i < Tile::kTilesM; ++i) {
        const int row = Tile::warp_row() + i * 16 + lane % 16;
        device::load_matrix_x4(av[i], ring + static_cast<std::uint32_t>(
                                                 at_a + swizzled_128(row, run * 2 + lane / 16)));
      }
#pragma unroll
      for (int j = 0; j < Tile::kTilesN; ++j) {
        std::uint32_t zeros = 0;
        if constexpr (Codes::kZero != 0) {
          zeros =
              scales.zeros_at(slice)[run * Tile::kBlockN + Tile::warp_column() + j * 8 + lane / 4];
        }
        const NibblePair bytes = Codes::integers(codes[j].w[run], zeros);
#pragma unroll
        for (int i = 0; i < Tile::kTilesM; ++i) {
          device::mma_s8(group[i][j], av[i], bytes.low, bytes.high);
        }
      }
      if (--runs_left == 0 || (run == Tile::kRuns - 1 && !has_next)) {
        add_group<Tile>(kind, scales.scales_at(slice) + run * Tile::kBlockN, group, sums);
        runs_left = runs_of_group;
      }
    }
    if (has_next) scales.store(slice + 1);
  }
  device::copy_async_wait<0>();
}

template <class Tile, class Codes>
KVANT_KERNEL(Tile::kThreads, 1)
gemm_nibbles_kernel(KVANT_CONSTANT GemmLaunch launch) {
  const GemmArgs& g = launch.args;
  const auto tiles_m = static_cast<int>((g.range.m + Tile::kBlockM - 1) / Tile::kBlockM);
  const auto tiles_n = static_cast<int>((g.range.n + Tile::kBlockN - 1) / Tile::kBlockN);
  const TileAt tile = tile_at(static_cast<int>(blockIdx.x), tiles_m, tiles_n);
  const std::int64_t m0 = std::int64_t{tile.m} * Tile::kBlockM;
  const std::int64_t n0 = std::int64_t{tile.n} * Tile::kBlockN;
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  float sums[Tile::kTilesM][Tile::kTilesN][4] = {};
  multiply_nibbles<Tile, Codes>(g, m0, n0, rows_of_tile(g.range.m, m0, Tile::kBlockM),
                                rows_of_tile(g.range.n, n0, Tile::kBlockN), sums);
  store_tile<Tile, NibbleWeights<Codes>>(launch, m0, n0, sums);
}

template <class Tile, class Codes>
void launch_gemm_nibbles(const GemmLaunch& g, void* queue) {
  const std::int64_t tiles_m = (g.args.range.m + Tile::kBlockM - 1) / Tile::kBlockM;
  const std::int64_t tiles_n = (g.args.range.n + Tile::kBlockN - 1) / Tile::kBlockN;
  device::launch({.grid = {static_cast<int>(tiles_m * tiles_n), 1, 1},
                  .threads = Tile::kThreads,
                  .shared_bytes = Tile::kSharedBytes,
                  .queue = queue},
                 &gemm_nibbles_kernel<Tile, Codes>, g);
}

}  // namespace
}  // namespace kvant
