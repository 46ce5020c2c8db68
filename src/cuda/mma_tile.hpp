#pragma once

// One tile of C = A B^T by mma.sync, for every GPU from sm_80 on; int8 or bfloat16, whose fragments
// have the same bytes. cp.async brings slices of K into a ring of shared memory, ldmatrix takes
// them to registers. A row of a slice is 64 bytes, four chunks of 16, swizzled so that the eight
// rows of an ldmatrix lie in different banks.

#include "cuda/device.hpp"

namespace kvant {
namespace {

template <int kM, int kN, int kWarpsM, int kWarpsN, int kRing>
struct MmaTile {
  static constexpr int kBlockM = kM, kBlockN = kN;
  static constexpr int kBlockK = 64;  ///< bytes
  static constexpr int kStages = kRing;
  static constexpr int kThreads = kWarpsM * kWarpsN * 32;
  static constexpr int kWarpM = kM / kWarpsM, kWarpN = kN / kWarpsN;
  static constexpr int kTilesM = kWarpM / 16, kTilesN = kWarpN / 8;
  static constexpr int kStageBytes = (kM + kN) * kBlockK;
  static constexpr int kSharedBytes = kStages * kStageBytes;
  static_assert(kWarpM % 16 == 0 && kWarpN % 32 == 0);

  /// Where the thread's fragments begin in the tile.
  KVANT_DEVICE static int warp_row() {
    return static_cast<int>(threadIdx.x) / 32 / kWarpsN * kWarpM;
  }
  KVANT_DEVICE static int warp_column() {
    return static_cast<int>(threadIdx.x) / 32 % kWarpsN * kWarpN;
  }
  KVANT_DEVICE static int first_row() {
    return warp_row() + static_cast<int>(threadIdx.x) % 32 / 4;
  }
  KVANT_DEVICE static int first_column() {
    return warp_column() + static_cast<int>(threadIdx.x) % 4 * 2;
  }
};

// 96 KiB, what every processor from sm_80 on has; and a small one for few rows.
using LargeMmaTile = MmaTile<128, 256, 2, 4, 4>;
using SmallMmaTile = MmaTile<64, 64, 2, 2, 4>;

KVANT_DEVICE int swizzled_64(int row, int chunk) {
  return row * 64 + ((chunk ^ (row >> 1 & 3)) << 4);
}

/// One slice of K of `rows` rows; rows behind `valid` become zero.
template <int kThreads>
KVANT_DEVICE void load_slice(std::uint32_t to, const unsigned char* from, int rows, int valid,
                             std::int64_t row_bytes) {
  for (int i = static_cast<int>(threadIdx.x); i < rows * 4; i += kThreads) {
    const int row = i / 4, chunk = i % 4;
    const bool inside = row < valid;
    device::copy_async_16(to + static_cast<std::uint32_t>(swizzled_64(row, chunk)),
                          from + (inside ? row : 0) * row_bytes + chunk * 16, inside ? 16 : 0);
  }
}

struct Int8Product {
  using Sum = std::int32_t;
  KVANT_DEVICE static void multiply(Sum (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
    device::mma_s8(c, a, b0, b1);
  }
};
struct Bfloat16Product {
  using Sum = float;
  KVANT_DEVICE static void multiply(Sum (&c)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
    device::mma_bf16(c, a, b0, b1);
  }
};

/// Adds the tile's products to sums, from zero.
/// @param a, b  the tile's first rows  @param rows, columns  how many of them there are
/// @param row_bytes  of both, a multiple of kBlockK
template <class Tile, class Product>
KVANT_DEVICE void multiply_tile(const unsigned char* a, const unsigned char* b,
                                std::int64_t row_bytes, int rows, int columns,
                                typename Product::Sum (&sums)[Tile::kTilesM][Tile::kTilesN][4]) {
  const std::uint32_t ring = device::shared_address(device::shared_memory());
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int slices = static_cast<int>(row_bytes / Tile::kBlockK);
  const auto load = [&](int slice) {
    if (slice < slices) {
      const std::uint32_t to =
          ring + static_cast<std::uint32_t>(slice % Tile::kStages * Tile::kStageBytes);
      load_slice<Tile::kThreads>(to, a + slice * Tile::kBlockK, Tile::kBlockM, rows, row_bytes);
      load_slice<Tile::kThreads>(to + Tile::kBlockM * Tile::kBlockK, b + slice * Tile::kBlockK,
                                 Tile::kBlockN, columns, row_bytes);
    }
    device::copy_async_commit();  // an empty group at the end keeps the count of groups simple
  };
  for (int slice = 0; slice < Tile::kStages - 1; ++slice) load(slice);
  for (int slice = 0; slice < slices; ++slice) {
    device::copy_async_wait<Tile::kStages - 2>();
    device::block_barrier();  // everyone's part has come, and everyone is done with the oldest
    load(slice + Tile::kStages - 1);
    const std::uint32_t at_a =
        ring + static_cast<std::uint32_t>(slice % Tile::kStages * Tile::kStageBytes);
    const std::uint32_t at_b = at_a + Tile::kBlockM * Tile::kBlockK;
#pragma unroll
    for (int step = 0; step < Tile::kBlockK / 32; ++step) {
      std::uint32_t av[Tile::kTilesM][4], bv[Tile::kTilesN / 2][4];
#pragma unroll
      for (int i = 0; i < Tile::kTilesM; ++i) {
        const int row = Tile::warp_row() + i * 16 + lane % 16;
        device::load_matrix_x4(
            av[i], at_a + static_cast<std::uint32_t>(swizzled_64(row, step * 2 + lane / 16)));
      }
#pragma unroll
      for (int j = 0; j < Tile::kTilesN / 2; ++j) {
        const int row = Tile::warp_column() + j * 16 + lane / 16 * 8 + lane % 8;
        device::load_matrix_x4(
            bv[j], at_b + static_cast<std::uint32_t>(swizzled_64(row, step * 2 + lane / 8 % 2)));
      }
#pragma unroll
      for (int i = 0; i < Tile::kTilesM; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::kTilesN; ++j) {
          Product::multiply(sums[i][j], av[i], bv[j / 2][j % 2 * 2], bv[j / 2][j % 2 * 2 + 1]);
        }
      }
    }
  }
  device::copy_async_wait<0>();
}

/// How many of a tile's rows there are.
KVANT_DEVICE int rows_of_tile(std::int64_t all, std::int64_t first, int of_tile) {
  const std::int64_t left = all - first;
  return left < of_tile ? static_cast<int>(left) : of_tile;
}

}  // namespace
}  // namespace kvant
