#pragma once

// GEMM of weights of 4 bits on squares (gemm_squares.hpp). The codes of a chunk of k become signed
// bytes in the first-level cache, as int8 weights lie there, once for all row blocks that pass;
// each group's exact sums are stored, become floats and are added by one fma with the group's
// scales, in ascending order. What a code stands for is a signed byte (code - zero, or a table's
// integer), so that nothing need be known of the sums of activations.
//
// A group of 32 k is half a step: its squares have 32 bytes of activations and 8 rows of weights.
//
// Cost beside the product: taking codes apart, a sixth of it with eight row blocks, and at the end
// of each group a store, a conversion and an fma of every sum, which is what bounds small groups.
// Few rows are multiplied by vectors (gemm_nibbles.hpp), whose layout of weights this is.

#include "cpu/micro/gemm_nibbles.hpp"
#include "cpu/micro/gemm_squares.hpp"

namespace kvant {
namespace {

/// k whose codes are taken apart together.
inline constexpr std::int64_t kChunkCodes = kChunkSteps * kSquareGroup;

/// Codes of one panel that lie in one group.
struct CodeRun {
  const unsigned char* header;
  const unsigned char* codes;
  std::int64_t length;
  bool begins, ends;  ///< its group
};

/// The run of a panel from k on, of at most `most` k; behind the last k it is empty.
inline CodeRun run_of(const NibblePanels& w, const unsigned char* panel, std::int64_t k,
                      std::int64_t most) noexcept {
  const std::int64_t in_group = k % w.group;
  const std::int64_t group_left = w.group - in_group;
  const std::int64_t left = w.k_padded - k < group_left ? w.k_padded - k : group_left;
  const std::int64_t length = left < most ? left : most;
  const unsigned char* const header = panel + w.group_at(k);
  return {header, panel + w.code_at(0, k), length, in_group == 0, length == left};
}

/// to [length / 4][nr][4] = the signed bytes that the codes of a run stand for.
template <class S, class P>
[[gnu::noinline]] void signed_codes(const NibblePanels& w, const CodeRun& run,
                                    unsigned char* to) noexcept {
  constexpr int kLine = S::kVectors * S::kBytesB;
  const typename S::I table = P::signed_table();
  const auto store = [](unsigned char* p, typename S::I v) noexcept {
    S::store_i32(reinterpret_cast<std::int32_t*>(p), v);
  };
  KVANT_UNROLL
  for (int v = 0; v < S::kVectors; ++v) {
    const typename S::I zeros =
        w.zero_points ? S::mul_i(S::load_u8(run.header + w.zeros_offset() + v * S::kLanes),
                                 S::set1_i(0x01010101))
                      : S::set1_i(P::kUniformZeros);
    for (std::int64_t k = 0; k < run.length; k += 8) {
      const std::ptrdiff_t at = k / 8 * kLine + v * S::kBytesB;
      const typename S::I both = S::load_b(reinterpret_cast<const std::int8_t*>(run.codes + at));
      unsigned char* const line = to + k / 4 * kLine + v * S::kBytesB;
      store(line, P::signed_integers(S::low_nibbles(both), table, zeros));
      store(line + kLine, P::signed_integers(S::high_nibbles(both), table, zeros));
    }
  }
}

/// acc[rows][32] += float(sums) * the scales of a group.
template <class S, class P>
[[gnu::always_inline]] inline void add_group(const unsigned char* header, const std::int32_t* sums,
                                             int rows, float* acc) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  typename S::F scale[S::kVectors];
  KVANT_UNROLL
  for (int v = 0; v < S::kVectors; ++v) {
    scale[v] = P::product_scale(P::scale(header + v * S::kLanes * P::kScaleBytes));
  }
  for (int r = 0; r < rows; ++r) {
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) {
      const int i = r * kColumns + v * S::kLanes;
      const typename S::F sum = S::to_f32(S::load_i32(sums + i));
      S::store_f32(acc + i, S::fma(sum, scale[v], S::load_f32(acc + i)));
    }
  }
}

/// Blocks of up to `most` rows by one panel after the other, in chunks of k.
/// @tparam kStep  k of a step: 64, or 32 where groups are no multiple of that
template <class S, class P, int kStep, class Finish>
void walk_nibble_squares(const GemmArgs& g, const RowBlocks& blocks, int most,
                         Finish&& finish) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const auto tile =
      most > kSquare ? &square_tile<S, kStep, 2 * kSquare> : &square_tile<S, kStep, kSquare>;
  const NibblePanels& w = g.nibbles;
  const TileRange& range = g.range;
  const std::ptrdiff_t panel_bytes = w.panel_bytes();
  const std::int64_t together = blocks_together(most * range.k_padded);
  alignas(64) unsigned char bytes[kChunkCodes * kColumns];
  alignas(64) std::int32_t sums[kMostTogether][S::kRows * kColumns];
  alignas(64) float acc[kMostTogether][S::kRows * kColumns];
  for (std::int64_t first = range.block_begin; first < range.block_end; first += together) {
    const std::int64_t left = range.block_end - first;
    const std::int64_t count = left < together ? left : together;
    const std::int64_t lines = (kStep / 2 * kColumns / 64 + count - 1) / count;
    for (std::int64_t panel = range.panel_begin; panel < range.panel_end; ++panel) {
      const auto* b = offset_bytes<unsigned char>(g.b, panel * panel_bytes);
      const unsigned char* ahead =
          b + panel_bytes;  // behind the last nothing is read, only asked for
      for (std::int64_t i = 0; i < count; ++i) {
        for (int at = 0; at < S::kRows * kColumns; at += S::kLanes) {
          S::store_f32(acc[i] + at, S::set1(0.0f));
        }
      }
      for (std::int64_t k = 0, chunk = 0; k < range.k_padded; k += chunk) {
        chunk = 0;
        for (;;) {  // whole groups, or a part of one that is longer
          const CodeRun run = run_of(w, b, k + chunk, kChunkCodes);
          if (run.length == 0 || chunk + run.length > kChunkCodes) break;
          signed_codes<S, P>(w, run, bytes + chunk * kColumns);
          chunk += run.length;
        }
        for (std::int64_t i = 0; i < count; ++i) {
          const std::int64_t row = blocks.first(first + i);
          const int rows = blocks.rows(first + i);
          const std::ptrdiff_t step_a = std::ptrdiff_t{rows} * kSquareGroup;
          const auto* a = offset_bytes<unsigned char>(g.a, row * range.k_padded);
          for (std::int64_t done = 0; done < chunk;) {
            const std::int64_t at = k + done;
            const CodeRun run = run_of(w, b, at, chunk - done);
            tile({.a = a + at / kSquareGroup * step_a + at % kSquareGroup,
                  .step_a = step_a,
                  .b = bytes + done * kColumns,
                  .steps = run.length / kStep,
                  .goes_on = !run.begins,
                  .ahead = ahead,
                  .lines = lines,
                  .second_half = at % kSquareGroup != 0},
                 sums[i]);
            ahead += run.length / kStep * lines * 64;
            if (run.ends) add_group<S, P>(run.header, sums[i], rows, acc[i]);
            done += run.length;
          }
        }
      }
      for (std::int64_t i = 0; i < count; ++i) {
        finish(acc[i], kColumns, blocks.first(first + i), blocks.rows(first + i), panel);
      }
    }
  }
}

/// Few rows are multiplied by vectors, which read weights faster: more panels at a time.
template <class S>
struct FewRows : S {
  static constexpr int kRows = 8;
  static constexpr int panels(int rows) noexcept { return rows <= 2 ? 4 : rows <= 4 ? 2 : 1; }
};

template <class S, class P>
struct FewRowsTiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &nibble_tile<FewRows<S>, P, kRows, kPanels, kSquareGroup>;
};

/// Words of the running sums (ActivationSums) of few rows that are made here; no other number of
/// rows wants any. They hold one row of every K (below 2^17), and eight of 16384.
inline constexpr std::int64_t kMostSums = 8 * (16384 / 32 + 1);

template <class S>
constexpr bool are_few(const RowBlocks& blocks, std::int64_t k_padded) noexcept {
  return blocks.m <= FewRows<S>::kRows && blocks.m * (k_padded / 32 + 1) <= kMostSums;
}

template <class S, class P, class Finish>
void walk_few_rows(const GemmArgs& g, Finish&& finish) noexcept {
  const std::int64_t k_padded = g.range.k_padded;
  const std::int64_t m = g.range.m;
  alignas(64) std::int32_t sums[kMostSums + S::kLanes];  // [parts][m], read by the vector
  for (std::int64_t r = 0; r < m; ++r) sums[r] = 0;
  for (std::int64_t part = 0; part < k_padded / 32; ++part) {
    for (std::int64_t r = 0; r < m; ++r) {
      const std::int64_t k = part * 32;
      const auto* codes = static_cast<const std::int8_t*>(g.a) +
                          k / kSquareGroup * m * kSquareGroup + r * kSquareGroup + k % kSquareGroup;
      std::int32_t sum = sums[part * m + r];
      for (int i = 0; i < 32; ++i) sum += codes[i];
      sums[(part + 1) * m + r] = sum;
    }
  }
  walk_tiles<FewRows<S>, float>(
      g, g.nibbles.panel_bytes(), k_padded, k_padded / 8,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t stride, float* acc,
          Ahead ahead, std::int64_t /*row*/, int rows, const Panels& panels) {
        find_tile<FewRows<S>, FewRowsTiles<S, P>>(rows, panels.count > 1)(
            {a, sums, b, stride, g.nibbles, ahead}, acc);
      },
      finish);
}

template <class S, class P>
void gemm_nibble_squares(const GemmArgs& args) noexcept {
  GemmArgs g = args;
  FoundWeights found(g);
  const RowBlocks blocks{g.range.m, S::kRows};
  const auto finish = [&](const float* acc, std::ptrdiff_t acc_stride, std::int64_t row, int rows,
                          std::int64_t panel) {
    found.turn_to(panel, [&](float* weights) { gather_nibbles<S, P>(g, panel, weights); });
    group_epilogue<S>(g, acc, acc_stride, row, rows, panel);
  };
  if (g.range.block_begin == g.range.block_end) return;
  if (are_few<S>(blocks, g.range.k_padded)) {
    walk_few_rows<S, P>(g, finish);
    return;
  }
  const int most = most_rows(blocks);
  const bool whole_steps = g.nibbles.group % kSquareGroup == 0;
  S::shape_squares(most, whole_steps ? kSquareGroup : kSquareGroup / 2);
  if (whole_steps) {
    walk_nibble_squares<S, P, kSquareGroup>(g, blocks, most, finish);
  } else {
    walk_nibble_squares<S, P, kSquareGroup / 2>(g, blocks, most, finish);
  }
  S::release_squares();
}

template <SimdSquares S, class P>
constexpr GemmKernels nibble_square_kernels() noexcept {
  GemmKernels kernels;
  kernels.activations = ActivationFormat::s8;
  kernels.layout = {
      .nr = S::kVectors * S::kLanes, .kr = 8, .k_pad = kSquareGroup, .align = 4 * S::kLanes};
  kernels.mr = S::kRows;
  kernels.group = kSquareGroup;
  kernels.gemm = &gemm_nibble_squares<S, P>;
  kernels.gather_columns = &gather_nibble_columns<S, P>;
  kernels.widen_panel = &widen_nibbles<S, P>;
  return kernels;
}

}  // namespace
}  // namespace kvant
