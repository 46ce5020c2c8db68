#pragma once

// Which GEMM kernel runs: by the device, the number of rows and how many tiles there are for its
// processors.

#include "cuda/decode.hpp"
#include "cuda/decode_nibbles.hpp"
#include "cuda/gemm_bf16.hpp"
#include "cuda/gemm_f32.hpp"
#include "cuda/gemm_groups.hpp"
#include "cuda/gemm_mma.hpp"
#include "cuda/gemm_nibbles.hpp"
#include "cuda/gemm_wgmma.hpp"
#include "cuda/stream_wgmma.hpp"

namespace kvant {
namespace {

inline constexpr int kDecodeRows = 8;
/// Weights of 4 bits are streamed so often, for some rows each time, before tiles with their few
/// blocks are faster.
inline constexpr int kNibbleStreams = 2;

inline std::int64_t dtype_bytes(DType dtype) noexcept {
  return dtype == DType::float32 || dtype == DType::int32 ? 4 : 2;
}

/// The part of a call that its ranges of blocks and panels name, as a whole call. With mr 1 and nr
/// 1 a block is a row and a panel an output.
/// @param element    bytes of an activation
/// @param row_bytes  from one output's weights to the next
inline GemmArgs ranged(GemmArgs g, std::int64_t element, std::int64_t row_bytes) noexcept {
  Epilogue& e = g.epilogue;
  const std::int64_t m = g.range.block_begin, n = g.range.panel_begin;
  g.a = static_cast<const unsigned char*>(g.a) + m * g.range.k_padded * element;
  g.b = static_cast<const unsigned char*>(g.b) + n * row_bytes;
  e.y = static_cast<unsigned char*>(e.y) + (m * e.y_stride + n) * dtype_bytes(e.y_dtype);
  if (e.row_scale != nullptr) e.row_scale += m;
  if (e.col_scale != nullptr) e.col_scale += n;
  if (e.bias != nullptr) e.bias += n;
  if (g.columns.scale != nullptr) g.columns.scale += n;
  if (g.x.data != nullptr) g.x = g.x.slice(m, g.range.block_end - m);
  for (OutlierBlock* const of : {&e.outliers.kept, &e.outliers.found}) {
    OutlierBlock& block = *of;
    if (block.x != nullptr) block.x += m;
    if (block.w != nullptr) {
      block.w = static_cast<const unsigned char*>(block.w) +
                n * block.w_stride * dtype_bytes(block.w_dtype);
    }
  }
  g.range.m = g.range.block_end - g.range.block_begin;
  g.range.n = g.range.panel_end - g.range.panel_begin;
  g.range.block_begin = g.range.panel_begin = 0;
  g.range.block_end = g.range.m;
  g.range.panel_end = g.range.n;
  return g;
}

/// The same where weights are rows of elements as wide as an activation's.
inline GemmArgs ranged(const GemmArgs& g, std::int64_t element) noexcept {
  return ranged(g, element, g.range.k_padded * element);
}

inline int alignment_of(const void* data, std::int64_t stride_bytes) noexcept {
  const auto bits =
      reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride_bytes) | 16u;
  return static_cast<int>(bits & (~bits + 1));
}

inline GemmLaunch whole_launch(const GemmArgs& g) noexcept {
  const Epilogue& e = g.epilogue;
  return {g, alignment_of(e.y, e.y_stride * dtype_bytes(e.y_dtype))};
}

/// Enough large tiles to keep most processors busy?
inline bool fills(std::int64_t m, std::int64_t n, int tile_m, int tile_n, int processors) noexcept {
  const std::int64_t tiles = ((m + tile_m - 1) / tile_m) * ((n + tile_n - 1) / tile_n);
  return tiles * 3 >= std::int64_t{processors} * 2;
}

inline void launch_gemm_hopper(const GemmLaunch& g, int processors, void* queue) {
  const std::int64_t m = g.args.range.m;
  const int split = stream_split(g.args.range.n, g.args.range.k_padded, processors);
  if (m <= 8) return launch_stream_wgmma<StreamTile<8, 12>>(g, split, queue);
  if (m <= 16) return launch_stream_wgmma<StreamTile<16, 8>>(g, split, queue);
  if (m <= 32) return launch_stream_wgmma<StreamTile<32, 8>>(g, split, queue);
  if (m <= 64) return launch_stream_wgmma<StreamTile<64, 6>>(g, split, queue);
  if (m <= 128) {  // one block a processor: more stages
    const bool one = (g.args.range.n + 63) / 64 * split <= processors;
    return one ? launch_stream_wgmma<StreamTile<128, 8>>(g, split, queue)
               : launch_stream_wgmma<StreamTile<128, 4>>(g, split, queue);
  }
  if (m <= 256 && g.args.range.n <= 32 * std::int64_t{processors}) {
    return launch_stream_wgmma<StreamTile<256, 4>>(g, split, queue);
  }
  if (fills(m, g.args.range.n, LargeWgmmaTile::kBlockM, LargeWgmmaTile::kBlockN, processors)) {
    return launch_gemm_wgmma<LargeWgmmaTile>(g, processors, queue);
  }
  launch_gemm_wgmma<SmallWgmmaTile>(g, processors, queue);
}

/// @param device  what the kernels are chosen for: this one's, or that of an older one
inline void launch_gemm_int8(const GemmArgs& args, const device::Properties& device) {
  const GemmLaunch g = whole_launch(ranged(args, 1));
  const std::int64_t m = g.args.range.m, n = g.args.range.n;
  void* const queue = args.queue;
  if (m <= 0 || n <= 0) return;
  if (device.major == 9 && g.args.range.k_padded > 0) {
    return launch_gemm_hopper(g, device.processors, queue);
  }
  if (m <= kDecodeRows) return launch_decode<DecodeTile<1>>(g, queue);
  if (fills(m, n, LargeMmaTile::kBlockM, LargeMmaTile::kBlockN, device.processors)) {
    return launch_gemm_mma<LargeMmaTile>(g, queue);
  }
  launch_gemm_mma<SmallMmaTile>(g, queue);
}

inline void launch_gemm_bfloat16(const GemmArgs& args, const device::Properties& device) {
  const GemmLaunch g = whole_launch(ranged(args, 2));
  const std::int64_t m = g.args.range.m, n = g.args.range.n;
  if (m <= 0 || n <= 0) return;
  if (fills(m, n, LargeMmaTile::kBlockM, LargeMmaTile::kBlockN, device.processors)) {
    return launch_gemm_bf16<LargeMmaTile>(g.args, g.y_vector, args.queue);
  }
  launch_gemm_bf16<SmallMmaTile>(g.args, g.y_vector, args.queue);
}

inline void launch_gemm_float32(const GemmArgs& args) {
  const GemmArgs g = ranged(args, 4);
  if (g.range.m > 0 && g.range.n > 0) launch_gemm_f32(g, args.queue);
}

template <class Codes>
void launch_gemm_4_bits(const GemmArgs& args, const device::Properties& device) {
  const GemmLaunch g = whole_launch(ranged(args, 1, args.nibbles.panel_bytes()));
  const std::int64_t m = g.args.range.m, n = g.args.range.n;
  if (m <= 0 || n <= 0) return;
  const std::int64_t rows = decode_nibble_rows(args.nibbles.group);
  if (m <= kNibbleStreams * rows) {
    for (std::int64_t begin = 0; begin < m; begin += rows) {
      GemmArgs part = g.args;
      part.range.block_begin = begin;
      part.range.block_end = begin + rows < m ? begin + rows : m;
      launch_decode_nibbles<Codes>(whole_launch(ranged(part, 1, args.nibbles.panel_bytes())),
                                   args.queue);
    }
    return;
  }
  if (fills(m, n, LargeNibbleTile::kBlockM, LargeNibbleTile::kBlockN, device.processors)) {
    return launch_gemm_nibbles<LargeNibbleTile, Codes>(g, args.queue);
  }
  launch_gemm_nibbles<SmallNibbleTile, Codes>(g, args.queue);
}

inline void launch_gemm_grouped(const GemmArgs& args) {
  const GemmLaunch g = whole_launch(ranged(args, 1, args.groups.panel_bytes()));
  if (g.args.range.m > 0 && g.args.range.n > 0) launch_gemm_groups(g, args.queue);
}

}  // namespace
}  // namespace kvant
