#pragma once

// GEMM of int8 where one instruction multiplies two rows of activations by two columns of weights,
// 8 codes of k each, into four sums (smmla):
//
//                       b: 8 k of 12 outputs, 6 loads of 2
//                     [ 0  1 ] [ 2  3 ]  ...  [10 11 ]
//   a rows 0, 1 ->    [ c    ] [ c    ]       [ c    ]     c: sums of (row 0, row 1) x (2 outputs)
//     ...
//   a rows 6, 7 ->    [ c    ] [ c    ]       [ c    ]     24 multiplications for 4 + 6 loads
//
// Activations lie in RowBlocks with groups of 8 bytes, so that two neighbouring rows are one load
// and nothing is broadcast; weights in groups of 8 k. An odd last row takes what lies behind it as
// its partner, whose sums are dropped. The rest is gemm.hpp's.

#include "cpu/micro/gemm.hpp"

namespace kvant {
namespace {

/// Bytes of each row that lie together in RowBlocks: one operand of the instruction has two.
inline constexpr int kPairGroup = 8;

/// acc[kRows][kPanels * S::kVectors * S::kLanes] = a block of kRows rows times kPanels panels of B.
template <class S, int kRows, int kPanels>
[[gnu::noinline]] void pair_tile(const unsigned char* a, const unsigned char* b,
                                 std::ptrdiff_t panel_bytes, std::int64_t groups, std::int32_t* acc,
                                 Ahead ahead) noexcept {
  static_assert(S::kLanes == 4 && S::kBytesB == 2 * kPairGroup);
  constexpr int kPairs = (kRows + 1) / 2;
  constexpr int kOfPanel = 2 * S::kVectors;  // vectors with weights of two outputs
  constexpr int kColumns = kPanels * kOfPanel;
  const auto load = [](const unsigned char* p) noexcept {
    return S::load_b(reinterpret_cast<const std::int8_t*>(p));
  };
  typename S::I c[kPairs][kColumns];
  KVANT_UNROLL
  for (int r = 0; r < kPairs; ++r) {
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) c[r][j] = S::zero_i();
  }
  for (std::int64_t g = 0; g < groups; ++g) {
    typename S::I av[kPairs];
    KVANT_UNROLL
    for (int r = 0; r < kPairs; ++r) av[r] = load(a + r * S::kBytesB);
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const typename S::I bv = load(b + (j / kOfPanel) * panel_bytes + (j % kOfPanel) * S::kBytesB);
      KVANT_UNROLL
      for (int r = 0; r < kPairs; ++r) c[r][j] = S::dot_pairs(c[r][j], av[r], bv);
    }
    if constexpr (kRows > 4) {  // as gemm_tile
      KVANT_UNROLL
      for (int line = 0; line < kColumns * S::kBytesB; line += 64) {
        __builtin_prefetch(b + kPrefetchBytes + line, 0, 3);
      }
      __builtin_prefetch(ahead.data, 0, 2);
      __builtin_prefetch(ahead.data + ahead.step - 64, 0, 2);
      ahead.data += ahead.step;
    }
    a += kRows * kPairGroup;
    b += kOfPanel * S::kBytesB;
  }
  constexpr int kVectors = kPanels * S::kVectors;
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int v = 0; v < kVectors; ++v) {
      const typename S::I low = c[r / 2][2 * v];
      const typename S::I high = c[r / 2][2 * v + 1];
      S::store_i32(acc + (r * kVectors + v) * S::kLanes,
                   r % 2 == 0 ? S::first_row(low, high) : S::second_row(low, high));
    }
  }
}

template <class S>
struct PairTiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &pair_tile<S, kRows, kPanels>;
};

template <class S>
void gemm_pairs(const GemmArgs& args) noexcept {
  GemmArgs g = args;
  FoundWeights found(g);
  const std::int64_t groups = g.range.k_padded / kPairGroup;
  walk_tiles<S, std::int32_t>(
      g, groups * 2 * S::kVectors * S::kBytesB, g.range.k_padded, groups,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t panel_bytes,
          std::int32_t* acc, Ahead ahead, std::int64_t /*row*/, int rows, const Panels& panels) {
        find_tile<S, PairTiles<S>>(rows, panels.count > 1)(a, b, panel_bytes, groups, acc, ahead);
      },
      [&](const std::int32_t* acc, std::ptrdiff_t acc_stride, std::int64_t row, int rows,
          std::int64_t panel) {
        finish_int8<S, kPairGroup>(g, found, acc, acc_stride, row, rows, panel);
      });
}

template <SimdPairs S>
constexpr GemmKernels pair_kernels() noexcept {
  return {.activations = ActivationFormat::s8,
          .layout = {.nr = S::kVectors * S::kLanes, .kr = kPairGroup, .k_pad = 64},
          .mr = S::kRows,
          .group = kPairGroup,
          .gemm = &gemm_pairs<S>,
          .gather_columns = &gather_columns<S, kPairGroup>};
}

}  // namespace
}  // namespace kvant
