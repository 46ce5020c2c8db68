#pragma once

// GEMM: C[m, n] = sum over k of A[m, k] * B[n, k], then the epilogue. One tile and one walk over
// the tiles serve int8 (sums in int32) and float formats (sums in float32): a policy P names the
// operands. (Weights of 4 bits and fp8 have tiles of their own, gemm_nibbles.hpp and gemm_fp8.hpp,
// on the same walk.)
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
// Activations lie in RowBlocks order, so that a step reads 4 * kRows neighbouring bytes of them.
//
// K is never split, so a tile's accumulators leave the registers once. A panel of weights stays in
// the second-level cache while all row blocks pass over it. With few rows (decode) a tile spans
// several panels instead: the accumulators are needed to hide the latency of the multiplication,
// and several streams of weights keep more of the memory busy than one.

#include "cpu/found_weights.hpp"
#include "cpu/micro/epilogue.hpp"
#include "cpu/micro/gather_columns.hpp"
#include "cpu/micro/simd_common.hpp"
#include "cpu/micro/split_pairs.hpp"

namespace kvant {
namespace {

/// Bytes of each row that lie together in RowBlocks: one broadcast of 32 bits.
inline constexpr int kGroupBytes = 4;

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

/// Signed activations by signed weights where S::dot has limits (split_pairs.hpp): by the fast
/// step, whose sums lack SplitRow::start.
template <class S>
struct LimitedProduct : Int8Product<S> {
  using I = typename S::I;
  static I load_b(const unsigned char* p) noexcept {
    return S::first_operand(Int8Product<S>::load_b(p));
  }
  static I dot(I sum, I a, I b) noexcept { return S::dot(sum, b, a); }
};
template <class S>
struct SignsProduct : Int8Product<S> {
  using I = typename S::I;
  static I dot(I sum, I a, I b) noexcept { return S::dot_by_signs(sum, a, b); }
};
template <class S>
struct SignedProduct : Int8Product<S> {
  using I = typename S::I;
  static I dot(I sum, I a, I b) noexcept { return S::dot_signed(sum, a, b); }
};

/// So few rows wait for memory: codes are taken apart in registers (decode_groups.hpp,
/// gemm_fp8.hpp), and weights asked for ahead.
inline constexpr int kFewRows = 4;

/// How far ahead of its use a tile of many rows asks for its weights.
inline constexpr std::ptrdiff_t kPrefetchBytes = 2048;

/// Asks for what a tile of few rows will take of each of its panels, S::kStreamAhead bytes behind
/// the kBytes of this step; 0: the processor foresees it. (With AVX2 four streams of one row are
/// foreseen where little is done to each byte: to ask for them made int8 5 to 25 % slower. Two
/// streams are not, nor four of 4-bit codes: 0.66 of the streaming read became 0.83, and 0.85
/// became 0.92. So it is with AVX-512: four streams of 4-bit codes went from 0.84 to 0.95.)
template <class S, int kPanels, int kBytes>
[[gnu::always_inline]] inline void fetch_streams(const unsigned char* b,
                                                 std::ptrdiff_t stride) noexcept {
  if constexpr (S::kStreamAhead != 0) {
    KVANT_UNROLL
    for (int p = 0; p < kPanels; ++p) {
      KVANT_UNROLL
      for (int line = 0; line < kBytes; line += 64) {
        __builtin_prefetch(b + p * stride + S::kStreamAhead + line, 0, 3);
      }
    }
  }
}

/// What a tile of many rows brings into the second-level cache meanwhile: a part of the next panel,
/// so that the first row block there does not wait for memory. Two lines a step where one or two
/// row blocks must fetch all of it, one where there are more blocks to share the work.
struct Ahead {
  const unsigned char* data;
  std::ptrdiff_t step;  ///< bytes: 64 or 128

  static Ahead of(const unsigned char* panel, std::ptrdiff_t panel_bytes, std::int64_t block,
                  std::int64_t blocks, std::int64_t groups) noexcept {
    const std::ptrdiff_t step = blocks > 2 ? 64 : 128;
    const std::ptrdiff_t part = block * groups * step;
    // Blocks behind the last part have nothing to fetch: what they ask for is there already.
    return {part < panel_bytes ? panel + panel_bytes + part : panel, step};
  }
};

/// acc[kRows][kPanels * S::kVectors * S::kLanes] = a block of kRows rows times kPanels panels of B.
/// A function of its own, never inlined: inside a larger loop nest the accumulators would be
/// spilled.
template <class S, class P, int kRows, int kPanels>
[[gnu::noinline]] void gemm_tile(const unsigned char* a, const unsigned char* b,
                                 std::ptrdiff_t panel_bytes, std::int64_t groups,
                                 typename P::Element* acc, Ahead ahead) noexcept {
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
      for (int r = 0; r < kRows; ++r) av[r] = P::broadcast_a(a + r * kGroupBytes);
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
        const typename P::Operand av = P::broadcast_a(a + r * kGroupBytes);
        KVANT_UNROLL
        for (int j = 0; j < kColumns; ++j) c[r][j] = P::dot(c[r][j], av, bv[j]);
      }
    }
    if constexpr (kRows > kFewRows) {
      // The weights come from the second-level cache: ask for them some steps ahead.
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        __builtin_prefetch(b + kPrefetchBytes + j * P::kBytesB, 0, 3);
      }
      __builtin_prefetch(ahead.data, 0, 2);
      __builtin_prefetch(ahead.data + ahead.step - 64, 0, 2);  // the same line where step is 64
      ahead.data += ahead.step;
    } else if constexpr (kPanels < S::panels(1)) {
      fetch_streams<S, kPanels, S::kVectors * P::kBytesB>(b, panel_bytes);
    }
    a += kRows * kGroupBytes;
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

template <class S, class P>
struct GemmTiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &gemm_tile<S, P, kRows, kPanels>;
};

/// The tile Tiles::kTile for a number of rows, kLeast at least, over S::panels(rows) panels
/// (several) or over one.
template <class S, class Tiles, int kRows = S::kRows, int kLeast = 1>
inline auto find_tile(int rows, bool several) noexcept {
  if constexpr (kRows > kLeast) {
    if (rows != kRows) return find_tile<S, Tiles, kRows - 1, kLeast>(rows, several);
  }
  return several ? Tiles::template kTile<kRows, S::panels(kRows)> : Tiles::template kTile<kRows, 1>;
}

/// The panels of one tile.
struct Panels {
  std::int64_t first;
  int count;
  std::int64_t apart;  ///< from one to the next

  std::int64_t operator[](int p) const noexcept { return first + p * apart; }
};

/// Walks the tiles of the range of row blocks and panels.
/// @param panel_bytes  from one panel of weights to the next
/// @param row_bytes    of activations
/// @param steps        of a tile, each of which may ask for a line of the next panel
/// tile(a, b, stride, acc, ahead, row, rows, panels) multiplies one; stride: from one of its
/// panels to the next. finish(acc, acc_stride, row, rows, panel) takes the sums of one panel.
///
/// Panels that share a tile stand far apart, a part of the range each: so every stream of weights
/// goes on from tile to tile without a break, and what is fetched ahead is soon used.
template <class S, class Element, class Tile, class Finish>
inline void walk_tiles(const GemmArgs& args, std::ptrdiff_t panel_bytes, std::int64_t row_bytes,
                       std::int64_t steps, Tile&& tile, Finish&& finish) noexcept {
  const TileRange& g = args.range;
  const RowBlocks blocks{g.m, S::kRows};
  alignas(64) Element acc[S::kMaxAccumulators * S::kLanes];
  const int streams = g.block_end > g.block_begin ? S::panels(blocks.rows(g.block_begin)) : 1;
  constexpr int kColumns = S::kVectors * S::kLanes;
  const std::int64_t apart = (g.panel_end - g.panel_begin) / streams;
  const std::int64_t rest = (g.panel_end - g.panel_begin) - streams * apart;  // singly, at the end

  for (std::int64_t t = 0; t < apart + rest; ++t) {
    const int count = t < apart ? streams : 1;
    const std::int64_t panel = g.panel_begin + (t < apart ? t : t + (streams - 1) * apart);
    const auto* b = offset_bytes<unsigned char>(args.b, panel * panel_bytes);
    for (std::int64_t block = g.block_begin; block < g.block_end; ++block) {
      const std::int64_t row = blocks.first(block);
      const int rows = blocks.rows(block);
      const auto* a = offset_bytes<unsigned char>(args.a, row * row_bytes);
      const int together = S::panels(rows) == count ? count : 1;
      for (int p = 0; p < count; p += together) {
        const Panels panels{panel + p * apart, together, apart};
        const Ahead ahead =
            Ahead::of(b, panel_bytes, block - g.block_begin, g.block_end - g.block_begin, steps);
        tile(a, b + p * apart * panel_bytes, apart * panel_bytes, acc, ahead, row, rows, panels);
        for (int i = 0; i < together; ++i) {
          finish(acc + i * kColumns, std::ptrdiff_t{together} * kColumns, row, rows, panels[i]);
        }
      }
    }
  }
}

/// The integer sums of one panel; the weights are in groups of kGroup k.
template <class S, int kGroup>
inline void finish_int8(const GemmArgs& g, FoundWeights& found, const std::int32_t* acc,
                        std::ptrdiff_t acc_stride, std::int64_t row, int rows,
                        std::int64_t panel) noexcept {
  found.turn_to(panel, [&](float* weights) { gather_panel<S, kGroup>(g, panel, weights); });
  epilogue<S>(g, acc, acc_stride, row, rows, panel);
}

/// One tile of kernels whose products have limits: the steps that its rows allow, then what was cut
/// off the activations.
template <class S>
inline void split_tile(const GemmArgs& g, const unsigned char* a, const unsigned char* b,
                       std::ptrdiff_t panel_bytes, std::int64_t groups, std::int32_t* acc,
                       Ahead ahead, std::int64_t row, int rows, int panels) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const bool several = panels > 1;
  if (rows <= kSignedRows) {
    constexpr int kMost = kSignedRows < S::kRows ? kSignedRows : S::kRows;
    find_tile<S, GemmTiles<S, SignedProduct<S>>, kMost>(rows, several)(a, b, panel_bytes, groups,
                                                                       acc, ahead);
    return;
  }
  if constexpr (S::kRows > kSignedRows) {
    constexpr int kLeast = kSignedRows + 1;
    const std::int64_t words = sums_of_row(g.range.k_padded, ActivationSums::split);
    const std::int32_t* const sums = g.a_sums + row * words;
    const PairSteps steps = steps_of(sums);
    const auto tile =
        steps == PairSteps::limited
            ? find_tile<S, GemmTiles<S, LimitedProduct<S>>, S::kRows, kLeast>(rows, several)
        : steps == PairSteps::by_signs
            ? find_tile<S, GemmTiles<S, SignsProduct<S>>, S::kRows, kLeast>(rows, several)
            : find_tile<S, GemmTiles<S, SignedProduct<S>>, S::kRows, kLeast>(rows, several);
    tile(a, b, panel_bytes, groups, acc, ahead);
    for (int p = 0; p < panels && steps == PairSteps::limited; ++p) {
      add_excess<S>(sums, words, rows, b + p * panel_bytes, acc + p * kColumns,
                    std::ptrdiff_t{panels} * kColumns);
    }
  }
}

template <class S>
void gemm_int8(const GemmArgs& args) noexcept {
  using P = Int8Product<S>;
  GemmArgs g = args;
  FoundWeights found(g);
  const std::int64_t groups = g.range.k_padded / P::kGroup;
  walk_tiles<S, std::int32_t>(
      g, groups * S::kVectors * P::kBytesB, groups * kGroupBytes, groups,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t panel_bytes,
          std::int32_t* acc, Ahead ahead, std::int64_t row, int rows, const Panels& panels) {
        if constexpr (S::kPairLimit == 0) {
          find_tile<S, GemmTiles<S, P>>(rows, panels.count > 1)(a, b, panel_bytes, groups, acc,
                                                                ahead);
        } else {
          split_tile<S>(g, a, b, panel_bytes, groups, acc, ahead, row, rows, panels.count);
        }
      },
      [&](const std::int32_t* acc, std::ptrdiff_t acc_stride, std::int64_t row, int rows,
          std::int64_t panel) {
        finish_int8<S, P::kGroup>(g, found, acc, acc_stride, row, rows, panel);
      });
}

template <class S>
constexpr GemmKernels int8_kernels() noexcept {
  constexpr bool kSplits = S::kPairLimit != 0;
  constexpr bool kSigned = S::kSignedCodes || kSplits;
  return {.activations = kSigned ? ActivationFormat::s8 : ActivationFormat::u8_offset,
          .layout = {.nr = S::kVectors * S::kLanes, .kr = S::kGroup, .k_pad = 64},
          .mr = S::kRows,
          .group = kGroupBytes,
          .sums = kSplits ? ActivationSums::split : ActivationSums::none,
          .gemm = &gemm_int8<S>,
          .gather_columns = &gather_columns<S, S::kGroup>};
}

}  // namespace
}  // namespace kvant
