#pragma once

// GEMM of int8 where one instruction multiplies 16 rows of activations by 16 columns of weights, 64
// codes of k each, and adds the products to 16 x 16 sums (AMX). Its operands are registers of 16
// rows of 64 bytes, "squares" here, of which there are eight:
//
//                            b: 64 k of 32 outputs
//                            [ 6: 0..15 ] [ 7: 16..31 ]
//   a: 64 k  [ 4: rows 0..15  ]  [ 0 ]        [ 1 ]          four multiplications for four loads
//            [ 5: rows 16..31 ]  [ 2 ]        [ 3 ]
//
// Of 2 to 16 rows there is one square, and two panels of weights share it; one row alone is
// multiplied by vectors, which keep more streams of weights going. Activations lie in RowBlocks
// with groups of 64 bytes, so that a square is one run of memory (and one row a plain row); weights
// lie as for every product of four bytes a lane.
//
// So fast a product waits for its operands: four loads of 1 KiB in the time of four multiplications
// are what the second-level cache gives at best. So a panel is multiplied in chunks of k that stay
// in the first level while a few row blocks pass, whose activations stay in the second; sums that
// are not complete wait in memory meanwhile.

#include "cpu/micro/gemm.hpp"

namespace kvant {
namespace {

/// k of a step, and bytes of each row that lie together in RowBlocks.
inline constexpr int kSquareGroup = 64;
/// Rows, and outputs, of a square.
inline constexpr int kSquare = 16;
/// Steps of k of a chunk: with 16 KiB of weights as many bytes of activations pass through the
/// first level of 48 KiB.
inline constexpr std::int64_t kChunkSteps = 8;
/// Row blocks that share a chunk: two, or as many as have their activations in half of the second
/// level, which is 2 MiB in every processor with AMX.
inline constexpr std::int64_t kMostTogether = 8;
constexpr std::int64_t blocks_together(std::int64_t block_bytes) noexcept {
  const std::int64_t fit = (std::int64_t{1} << 20) / (block_bytes > 0 ? block_bytes : 1);
  return fit < 2 ? 2 : fit > kMostTogether ? kMostTogether : fit;
}

/// The most rows of a block. Blocks differ by one row at most. The squares of one that has less
/// take the 64 bytes behind its rows too (kActivationSlack), and the sums of that row are dropped.
constexpr int most_rows(const RowBlocks& blocks) noexcept {
  return static_cast<int>((blocks.m + blocks.count() - 1) / blocks.count());
}

/// The operands of one tile.
struct SquareTile {
  const unsigned char* a;
  std::ptrdiff_t step_a;  ///< bytes of 64 k of all rows
  const unsigned char* b;
  std::int64_t steps;
  std::ptrdiff_t stride = 0;             ///< from one panel to the next
  bool goes_on = false;                  ///< with the sums that are in acc
  const unsigned char* ahead = nullptr;  ///< what the second-level cache is asked for meanwhile
  std::int64_t lines = 0;                ///< of that, in each step
  bool second_half = false;              ///< steps of 32 k: of 64 the second are first
};

/// Bytes of 64 k of a panel, and from one group of four k to the next.
template <class S>
constexpr std::ptrdiff_t panel_step() noexcept {
  return kSquareGroup * S::kVectors * S::kLanes;
}
template <class S>
constexpr std::ptrdiff_t panel_row() noexcept {
  return S::kVectors * S::kBytesB;
}

template <class S, int kTo>
[[gnu::always_inline]] inline void start_sums(const std::int32_t* sums, std::ptrdiff_t row,
                                              bool goes_on) noexcept {
  if (goes_on) {
    S::template load_square<kTo>(reinterpret_cast<const unsigned char*>(sums),
                                 row * std::ptrdiff_t{sizeof(std::int32_t)});
  } else {
    S::template zero_square<kTo>();
  }
}

/// acc[rows][32] = the sums of two squares of rows, or of one, times one panel.
/// @tparam kStep  k of a step: 64, or 32
/// @tparam kRows  32, or 16
template <class S, int kStep, int kRows>
[[gnu::noinline]] void square_tile(SquareTile t, std::int32_t* acc) noexcept {
  constexpr std::ptrdiff_t kRow = 2 * kSquare;
  constexpr bool kTwo = kRows > kSquare;
  std::int32_t* const below = acc + kSquare * kRow;
  start_sums<S, 0>(acc, kRow, t.goes_on);
  start_sums<S, 1>(acc + kSquare, kRow, t.goes_on);
  if constexpr (kTwo) {
    start_sums<S, 2>(below, kRow, t.goes_on);
    start_sums<S, 3>(below + kSquare, kRow, t.goes_on);
  }
  for (; t.steps > 0; --t.steps) {
    S::template load_square<4>(t.a, kSquareGroup);
    S::template load_square<6>(t.b, panel_row<S>());
    S::template load_square<7>(t.b + S::kBytesB, panel_row<S>());
    if constexpr (kTwo) {
      S::template load_square<5>(t.a + kSquare * kSquareGroup, kSquareGroup);
    }
    S::template dot_squares<0, 4, 6>();
    S::template dot_squares<1, 4, 7>();
    if constexpr (kTwo) {
      S::template dot_squares<2, 5, 6>();
      S::template dot_squares<3, 5, 7>();
    }
    for (std::int64_t line = 0; line < t.lines; ++line, t.ahead += 64) {
      __builtin_prefetch(t.ahead, 0, 2);
    }
    if constexpr (kStep == kSquareGroup) {
      t.a += t.step_a;
    } else {
      t.a += t.second_half ? t.step_a - kStep : kStep;
      t.second_half = !t.second_half;
    }
    t.b += panel_step<S>() / kSquareGroup * kStep;
  }
  S::template store_square<0>(acc, kRow);
  S::template store_square<1>(acc + kSquare, kRow);
  if constexpr (kTwo) {
    S::template store_square<2>(below, kRow);
    S::template store_square<3>(below + kSquare, kRow);
  }
}

/// One row by vectors whose first operand is not negative: code + 128, and 128, whose products are
/// subtracted in the end.
template <class S>
struct OffsetProduct : Int8Product<S> {
  using I = typename S::I;
  struct Sum {
    I sum;
    I offset;
  };
  static Sum zero() noexcept { return {S::zero_i(), S::zero_i()}; }
  static I broadcast_a(const unsigned char* p) noexcept {
    return S::first_operand(S::broadcast_a(p));
  }
  static Sum dot(Sum sum, I a, I b) noexcept {
    return {S::dot(sum.sum, a, b), S::dot(sum.offset, S::first_operand(S::zero_i()), b)};
  }
  static void store(std::int32_t* p, Sum v) noexcept { S::store_i32(p, S::sub_i(v.sum, v.offset)); }
};

/// acc[2..16][kPanels * 32] = the sums of one square of rows times kPanels panels.
template <class S, int kPanels>
[[gnu::noinline]] void flat_tile(SquareTile t, std::int32_t* acc) noexcept {
  S::template zero_square<0>();
  S::template zero_square<1>();
  if constexpr (kPanels == 2) {
    S::template zero_square<2>();
    S::template zero_square<3>();
  }
  for (; t.steps > 0; --t.steps) {
    S::template load_square<4>(t.a, kSquareGroup);
    S::template load_square<5>(t.b, panel_row<S>());
    S::template load_square<6>(t.b + S::kBytesB, panel_row<S>());
    S::template dot_squares<0, 4, 5>();
    S::template dot_squares<1, 4, 6>();
    if constexpr (kPanels == 2) {
      S::template load_square<7>(t.b + t.stride, panel_row<S>());
      S::template load_square<5>(t.b + t.stride + S::kBytesB, panel_row<S>());
      S::template dot_squares<2, 4, 7>();
      S::template dot_squares<3, 4, 5>();
    }
    KVANT_UNROLL
    for (int p = 0; p < kPanels; ++p) {  // what the next step takes
      for (int line = 0; line < panel_step<S>(); line += 64) {
        __builtin_prefetch(t.b + p * t.stride + panel_step<S>() + line, 0, 3);
      }
    }
    t.a += t.step_a;
    t.b += panel_step<S>();
  }
  constexpr std::ptrdiff_t kRow = kPanels * 2 * kSquare;
  S::template store_square<0>(acc, kRow);
  S::template store_square<1>(acc + kSquare, kRow);
  if constexpr (kPanels == 2) {
    S::template store_square<2>(acc + 2 * kSquare, kRow);
    S::template store_square<3>(acc + 3 * kSquare, kRow);
  }
}

/// One block of up to 16 rows, by several panels at a time.
template <class S, class Finish>
void walk_narrow(const GemmArgs& g, std::ptrdiff_t panel_bytes, Finish&& finish) noexcept {
  const std::int64_t k_padded = g.range.k_padded;
  walk_tiles<S, std::int32_t>(
      g, panel_bytes, k_padded, 0,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t stride, std::int32_t* acc,
          Ahead ahead, std::int64_t /*row*/, int rows, const Panels& panels) {
        if (rows == 1) {
          const auto tile = panels.count > 1 ? &gemm_tile<S, OffsetProduct<S>, 1, S::panels(1)>
                                             : &gemm_tile<S, OffsetProduct<S>, 1, 1>;
          tile(a, b, stride, k_padded / S::kGroup, acc, ahead);
        } else {
          const auto tile = panels.count > 1 ? &flat_tile<S, 2> : &flat_tile<S, 1>;
          tile({a, std::ptrdiff_t{rows} * kSquareGroup, b, k_padded / kSquareGroup, stride}, acc);
        }
      },
      finish);
}

/// Blocks of up to `most` rows, more than 16, by one panel after the other, in chunks of k.
template <class S, class Finish>
void walk_squares(const GemmArgs& g, const RowBlocks& blocks, int most, std::ptrdiff_t panel_bytes,
                  Finish&& finish) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const TileRange& range = g.range;
  const std::int64_t steps = range.k_padded / kSquareGroup;
  const std::int64_t together = blocks_together(most * range.k_padded);
  alignas(64) std::int32_t sums[kMostTogether][S::kRows * kColumns];
  for (std::int64_t first = range.block_begin; first < range.block_end; first += together) {
    const std::int64_t left = range.block_end - first;
    const std::int64_t count = left < together ? left : together;
    const std::int64_t lines = (panel_step<S>() / 64 + count - 1) / count;
    const std::int64_t most_steps = count == 1 && steps > 0 ? steps : kChunkSteps;
    for (std::int64_t panel = range.panel_begin; panel < range.panel_end; ++panel) {
      const auto* b = offset_bytes<unsigned char>(g.b, panel * panel_bytes);
      const unsigned char* ahead =
          b + panel_bytes;  // behind the last nothing is read, only asked for
      for (std::int64_t step = 0; step == 0 || step < steps; step += most_steps) {  // K may be 0
        const std::int64_t chunk = steps - step < most_steps ? steps - step : most_steps;
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t row = blocks.first(first + i);
          const std::ptrdiff_t step_a = std::ptrdiff_t{blocks.rows(first + i)} * kSquareGroup;
          const auto* a = offset_bytes<unsigned char>(g.a, row * range.k_padded + step * step_a);
          square_tile<S, kSquareGroup, S::kRows>({.a = a,
                                                  .step_a = step_a,
                                                  .b = b + step * panel_step<S>(),
                                                  .steps = chunk,
                                                  .goes_on = step > 0,
                                                  .ahead = ahead,
                                                  .lines = lines},
                                                 sums[i]);
          ahead += chunk * lines * 64;
        }
      }
      for (std::int64_t i = 0; i < count; ++i) {
        finish(sums[i], kColumns, blocks.first(first + i), blocks.rows(first + i), panel);
      }
    }
  }
}

template <class S>
void gemm_squares(const GemmArgs& args) noexcept {
  static_assert(S::kVectors == 2 && S::kLanes == kSquare && S::kRows == 2 * kSquare);
  GemmArgs g = args;
  FoundWeights found(g);
  const RowBlocks blocks{g.range.m, S::kRows};
  const std::ptrdiff_t panel_bytes = g.range.k_padded * S::kVectors * S::kLanes;
  const auto finish = [&](const std::int32_t* acc, std::ptrdiff_t acc_stride, std::int64_t row,
                          int rows, std::int64_t panel) {
    finish_int8<S, S::kGroup>(g, found, acc, acc_stride, row, rows, panel);
  };
  if (g.range.block_begin == g.range.block_end) return;
  const int most = most_rows(blocks);
  if (most == 1) {
    walk_narrow<S>(g, panel_bytes, finish);
    return;
  }
  S::shape_squares(most, kSquareGroup);
  if (most <= kSquare) {  // then there is one block
    walk_narrow<S>(g, panel_bytes, finish);
  } else {
    walk_squares<S>(g, blocks, most, panel_bytes, finish);
  }
  S::release_squares();
}

template <SimdSquares S>
constexpr GemmKernels square_kernels() noexcept {
  return {.activations = ActivationFormat::s8,
          .layout = {.nr = S::kVectors * S::kLanes, .kr = S::kGroup, .k_pad = kSquareGroup},
          .mr = S::kRows,
          .group = kSquareGroup,
          .gemm = &gemm_squares<S>,
          .gather_columns = &gather_columns<S, S::kGroup>};
}

}  // namespace
}  // namespace kvant
