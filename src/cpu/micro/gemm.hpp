#pragma once

// GEMM: C[m, n] = sum over k of A[m, k] * B[n, k], then the epilogue. One tile and one walk over the
// tiles serve int8 (sums in int32) and bfloat16 (sums in float32): a policy P names the operands.
//
// The register tile, for kRows = 8 and one panel of 3 vectors (AVX-512, 24 accumulators):
//
//                b: one group of k of 48 outputs, three vector loads
//              [ 0..15 ] [16..31] [32..47]
//   a row 0 -> [  c00  ] [  c01 ] [  c02 ]     each step of the loop broadcasts one group of k
//   a row 1 -> [  c10  ] [  c11 ] [  c12 ]     (4 bytes) of each row and multiplies it with the
//     ...                                      three vectors: 24 multiplications for 3 + 8 loads
//   a row 7 -> [  c70  ] [  c71 ] [  c72 ]
//
// K is never split, so a tile's accumulators leave the registers once. A panel of weights stays in
// the second-level cache while all row blocks pass over it. With few rows (decode) a tile spans
// several panels instead: the accumulators are needed to hide the latency of the multiplication,
// and several streams of weights keep more of the memory busy than one.

#include "cpu/micro/epilogue.hpp"
#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// Int8: S::kGroup codes of k per step and 32-bit lane, sums in int32.
template <class S>
struct Int8Product {
  using Sum = typename S::I;
  using Operand = typename S::I;
  using Element = std::int32_t;  ///< of a sum
  static constexpr int kGroup = S::kGroup;
  static constexpr int kBytesB = S::kBytesB;
  static Sum zero() noexcept { return S::zero_i(); }
  static Operand broadcast_a(const unsigned char* p) noexcept { return S::broadcast_a(p); }
  static Operand load_b(const unsigned char* p) noexcept {
    return S::load_b(reinterpret_cast<const std::int8_t*>(p));
  }
  static Sum dot(Sum sum, Operand a, Operand b) noexcept { return S::dot(sum, a, b); }
  static void store(Element* p, Sum v) noexcept { S::store_i32(p, v); }
};

/// acc[kRows][kPanels * S::kVectors * S::kLanes] = A rows times kPanels panels of B. A function of
/// its own, never inlined: inside a larger loop nest the accumulators would be spilled.
template <class S, class P, int kRows, int kPanels>
[[gnu::noinline]] void gemm_tile(const unsigned char* a, std::ptrdiff_t a_stride,
                                 const unsigned char* b, std::ptrdiff_t panel_bytes,
                                 std::int64_t groups, typename P::Element* acc) noexcept {
  constexpr int kColumns = kPanels * S::kVectors;
  typename P::Sum c[kRows][kColumns];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) c[r][j] = P::zero();
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    if constexpr (kRows < kColumns) {  // the fewer operands are held, the others pass through
      typename P::Operand av[kRows];
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) av[r] = P::broadcast_a(a + r * a_stride);
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        const typename P::Operand bv =
            P::load_b(b + (j / S::kVectors) * panel_bytes + (j % S::kVectors) * P::kBytesB);
        KVANT_UNROLL
        for (int r = 0; r < kRows; ++r) c[r][j] = P::dot(c[r][j], av[r], bv);
      }
    } else {
      typename P::Operand bv[kColumns];
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        bv[j] = P::load_b(b + (j / S::kVectors) * panel_bytes + (j % S::kVectors) * P::kBytesB);
      }
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const typename P::Operand av = P::broadcast_a(a + r * a_stride);
        KVANT_UNROLL
        for (int j = 0; j < kColumns; ++j) c[r][j] = P::dot(c[r][j], av, bv[j]);
      }
    }
    a += S::kBytesA;
    b += S::kVectors * P::kBytesB;
  }
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      P::store(acc + (r * kColumns + j) * S::kLanes, c[r][j]);
    }
  }
}

template <class P>
using GemmTile = void (*)(const unsigned char*, std::ptrdiff_t, const unsigned char*, std::ptrdiff_t,
                          std::int64_t, typename P::Element*) noexcept;

/// The tile for a number of rows, over S::panels(rows) panels or over one.
template <class S, class P, int kRows = S::kRows>
inline GemmTile<P> find_tile(int rows, bool wide) noexcept {
  if constexpr (kRows == 0) {
    return nullptr;
  } else {
    if (rows == kRows) {
      return wide ? &gemm_tile<S, P, kRows, S::panels(kRows)> : &gemm_tile<S, P, kRows, 1>;
    }
    return find_tile<S, P, kRows - 1>(rows, wide);
  }
}

/// Walks the tiles of g's range of rows and panels; finish(acc, row, rows, panel, panels) takes each.
template <class S, class P, class Args, class Finish>
inline void walk_tiles(const Args& g, Finish&& finish) noexcept {
  const std::int64_t rows = g.row_end - g.row_begin;
  if (rows <= 0) return;
  const std::int64_t groups = g.k_padded / P::kGroup;
  const std::ptrdiff_t panel_bytes = static_cast<std::ptrdiff_t>(groups) * S::kVectors * P::kBytesB;
  // Even blocks: 33 rows are 7 + 7 + 7 + 6 + 6, not 8 + 8 + 8 + 8 + 1.
  const std::int64_t blocks = (rows + S::kRows - 1) / S::kRows;
  const int wide = S::panels(static_cast<int>((rows + blocks - 1) / blocks));
  alignas(64) typename P::Element acc[S::kMaxAccumulators * S::kLanes];

  for (std::int64_t panel = g.panel_begin; panel < g.panel_end;) {
    const int panels = g.panel_end - panel >= wide ? wide : 1;
    const auto* b = offset_bytes<unsigned char>(g.b, panel * panel_bytes);
    for (std::int64_t block = 0; block < blocks; ++block) {
      const std::int64_t first = g.row_begin + rows * block / blocks;
      const std::int64_t last = g.row_begin + rows * (block + 1) / blocks;
      const int count = static_cast<int>(last - first);
      const bool all = panels > 1 && S::panels(count) == panels;
      for (int p = 0; p < panels; p += all ? panels : 1) {
        find_tile<S, P>(count, all)(offset_bytes<unsigned char>(g.a, first * g.a_stride), g.a_stride,
                                    b + p * panel_bytes, panel_bytes, groups, acc);
        finish(acc, first, count, panel + p, all ? panels : 1);
      }
    }
    panel += panels;
  }
}

template <class S>
void gemm(const GemmArgs& g) noexcept {
  walk_tiles<S, Int8Product<S>>(g, [&](const std::int32_t* acc, std::int64_t row, int rows,
                                       std::int64_t panel, int panels) {
    epilogue<S>(g, acc, row, rows, panel, panels);
  });
}

}  // namespace
}  // namespace kvant
