#pragma once

// Which GEMM kernel runs: by the device, the number of rows and how many tiles there are for its
// processors.

#include "cuda/decode.hpp"
#include "cuda/gemm_bf16.hpp"
#include "cuda/gemm_mma.hpp"
#include "cuda/gemm_wgmma.hpp"
#include "cuda/stream_wgmma.hpp"

namespace kvant {
namespace {

inline constexpr int kDecodeRows = 8;

inline std::int64_t dtype_bytes(DType dtype) noexcept {
  return dtype == DType::float32 || dtype == DType::int32 ? 4 : 2;
}

/// The part of a call that its ranges of blocks and panels name, as a whole call. With mr 1 and nr
/// 1 a block is a row and a panel an output.
inline GemmArgs ranged(GemmArgs g) noexcept {
  Epilogue& e = g.epilogue;
  const std::int64_t m = g.block_begin, n = g.panel_begin;
  g.a = static_cast<const unsigned char*>(g.a) + m * g.k_padded;
  g.b += n * g.k_padded;
  e.y = static_cast<unsigned char*>(e.y) + (m * e.y_stride + n) * dtype_bytes(e.y_dtype);
  if (e.row_scale != nullptr) e.row_scale += m;
  if (e.col_scale != nullptr) e.col_scale += n;
  if (e.bias != nullptr) e.bias += n;
  if (g.columns.scale != nullptr) g.columns.scale += n;
  for (OutlierBlock& block : e.outliers) {
    if (block.x != nullptr) block.x += m;
    if (block.w != nullptr) {
      block.w = static_cast<const unsigned char*>(block.w) +
                n * block.w_stride * dtype_bytes(block.w_dtype);
    }
  }
  g.m = g.block_end - g.block_begin;
  g.n = g.panel_end - g.panel_begin;
  g.block_begin = g.panel_begin = 0;
  g.block_end = g.m;
  g.panel_end = g.n;
  return g;
}

inline int alignment_of(const void* data, std::int64_t stride_bytes) noexcept {
  const auto bits =
      reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride_bytes) | 16u;
  return static_cast<int>(bits & (~bits + 1));
}

/// Enough large tiles to keep most processors busy?
inline bool fills(std::int64_t m, std::int64_t n, int tile_m, int tile_n, int processors) noexcept {
  const std::int64_t tiles = ((m + tile_m - 1) / tile_m) * ((n + tile_n - 1) / tile_n);
  return tiles * 3 >= std::int64_t{processors} * 2;
}

inline void launch_gemm_hopper(const GemmLaunch& g, int processors, void* queue) {
  const std::int64_t m = g.args.m;
  if (m <= 8) return launch_stream_wgmma<StreamTile<8, 8>>(g, processors, queue);
  if (m <= 16) return launch_stream_wgmma<StreamTile<16, 8>>(g, processors, queue);
  if (m <= 32) return launch_stream_wgmma<StreamTile<32, 6>>(g, processors, queue);
  if (m <= 64) return launch_stream_wgmma<StreamTile<64, 6>>(g, processors, queue);
  if (m <= 128) return launch_stream_wgmma<StreamTile<128, 4>>(g, processors, queue);
  if (fills(m, g.args.n, LargeWgmmaTile::kBlockM, LargeWgmmaTile::kBlockN, processors)) {
    return launch_gemm_wgmma<LargeWgmmaTile>(g, processors, queue);
  }
  launch_gemm_wgmma<SmallWgmmaTile>(g, processors, queue);
}

/// @param device  what the kernels are chosen for: this one's, or that of an older one
inline void launch_gemm(const GemmArgs& args, const FoundOutliers& found,
                        const device::Properties& device, void* queue) {
  GemmLaunch g{ranged(args), found, 0};
  if (g.args.m <= 0 || g.args.n <= 0) return;
  const Epilogue& e = g.args.epilogue;
  g.y_vector = alignment_of(e.y, e.y_stride * dtype_bytes(e.y_dtype));
  if (device.major == 9 && g.args.k_padded > 0)
    return launch_gemm_hopper(g, device.processors, queue);
  if (g.args.m <= kDecodeRows) return launch_decode<DecodeTile<1>>(g, queue);
  if (fills(g.args.m, g.args.n, LargeMmaTile::kBlockM, LargeMmaTile::kBlockN, device.processors)) {
    return launch_gemm_mma<LargeMmaTile>(g, queue);
  }
  launch_gemm_mma<SmallMmaTile>(g, queue);
}

inline void launch_half_gemm(HalfGemmArgs g, void* queue) {
  const std::int64_t m = g.block_begin, n = g.panel_begin;
  g.a = static_cast<const std::uint16_t*>(g.a) + m * g.k_padded;
  g.b += n * g.k_padded;
  g.y = static_cast<unsigned char*>(g.y) + (m * g.y_stride + n) * dtype_bytes(g.y_dtype);
  if (g.bias != nullptr) g.bias += n;
  g.m = g.block_end - g.block_begin;
  g.n = g.panel_end - g.panel_begin;
  if (g.m <= 0 || g.n <= 0) return;
  const int y_vector = alignment_of(g.y, g.y_stride * dtype_bytes(g.y_dtype));
  if (fills(g.m, g.n, LargeMmaTile::kBlockM, LargeMmaTile::kBlockN,
            device::properties().processors)) {
    return launch_gemm_bf16<LargeMmaTile>(g, y_vector, queue);
  }
  launch_gemm_bf16<SmallMmaTile>(g, y_vector, queue);
}

}  // namespace
}  // namespace kvant
