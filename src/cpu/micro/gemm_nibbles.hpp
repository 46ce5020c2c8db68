#pragma once

// GEMM of weights of 4 bits (NibblePanels) by int8 activations. A load brings two codes for each
// byte; the low ones belong to the next four k of every output, the high ones to the four after
// them. Codes are not negative, what they stand for is code - zero: the sums of a group begin at
// -zero * (sum of the group's activations), so that the loop knows nothing of zeros. At the end of
// a group its exact integer sums become floats and are added by one fma with the group's scales.
//
// Where bytes are multiplied into 16-bit pairs (no VNNI), sums stay in 16 bits for a chain of 64 k
// (32 with zero points of their own): two instructions a product instead of three, which makes 4
// bits faster than 8. Sums may wrap on their way; in the end |code - zero| <= 8, so
// 8 * 127 * 32 = 32512 fits (zero points: 15 * 127 * 16 = 30480).
//
// Cost beside int8's loop: a mask and a shift for each load, and at the end of a group a conversion
// and an fma with sums in the first-level cache.

#include "cpu/micro/gemm.hpp"
#include "cpu/micro/nibble_values.hpp"

namespace kvant {
namespace {

/// What a tile multiplies.
struct NibbleTile {
  const unsigned char* a;
  const std::int32_t* sums;  ///< of its rows
  const unsigned char* b;
  std::ptrdiff_t stride;  ///< from one of its panels to the next
  const NibblePanels& w;
  Ahead ahead;
};

/// Chains whose beginnings are prepared together.
inline constexpr std::int64_t kPreparedChains = 64;

/// Numbers for this many rows, as many as fill vectors.
template <class S>
constexpr int row_lanes(int rows) noexcept {
  return (rows + S::kLanes - 1) / S::kLanes * S::kLanes;
}

/// starts[count][row_lanes] = for each row the sum of its activations in chains of `part` k from k
/// on, times -zero where all weights have the same zero: where the sums of the chain begin.
template <class S, class P, int kRows>
inline void prepare_starts(const NibbleTile& t, std::int64_t k, std::int64_t part,
                           std::int64_t count, std::int32_t* starts) noexcept {
  for (std::int64_t i = 0; i < count; ++i, k += part) {
    const std::int64_t end = k + part < t.w.k_padded ? k + part : t.w.k_padded;
    for (int v = 0; v < row_lanes<S>(kRows); v += S::kLanes) {
      const std::int32_t* sums = t.sums + k / 32 * kRows + v;
      typename S::I start = S::load_i32(sums);
      if constexpr (P::kNarrow) {
        if (end - k == 64) start = S::add16(start, S::load_i32(sums + kRows));
        if (!t.w.zero_points) {
          start = S::mul16(start, S::set1_i(static_cast<std::int32_t>(
                                      static_cast<std::uint32_t>(-P::kZero & 0xFFFF) * 0x10001u)));
        }
      } else {
        start = S::sub_i(S::load_i32(t.sums + end / 32 * kRows + v), start);
        if (!t.w.zero_points) start = S::mul_i(start, S::set1_i(-P::kZero));
      }
      S::store_i32(starts + i * row_lanes<S>(kRows) + v, start);
    }
  }
}

/// Where the sums of one chain begin: -zero * (sum of its activations).
/// (Formats whose integers have no zero to subtract have no zero points either.)
template <class S, class P, int kRows, int kColumns>
[[gnu::always_inline]] inline void start_chain(const NibblePanels& w, const unsigned char* header,
                                               std::ptrdiff_t stride, const std::int32_t* starts,
                                               typename S::I (&c)[kRows][kColumns]) noexcept {
  const auto start = [&](int r) noexcept {
    return S::broadcast_a(reinterpret_cast<const unsigned char*>(starts + r));
  };
  if (P::kZero == 0 || !w.zero_points) {
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      const typename S::I row = P::kZero == 0 ? S::zero_i() : start(r);
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) c[r][j] = row;
    }
    return;
  }
  KVANT_UNROLL
  for (int j = 0; j < kColumns; ++j) {
    const unsigned char* zeros =
        header + (j / S::kVectors) * stride + w.zeros_offset() + (j % S::kVectors) * S::kLanes;
    const typename S::I less = S::sub_i(S::zero_i(), S::load_u8(zeros));
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      if constexpr (P::kNarrow) {
        c[r][j] = S::mul16(start(r), S::twice16(less));
      } else {
        c[r][j] = S::mul_i(start(r), less);
      }
    }
  }
}

/// Eight k: the low codes, then the high ones.
/// @tparam kGroup  of RowBlocks: kGroupBytes, or whole steps
template <class S, class P, int kGroup, int kRows, int kColumns>
[[gnu::always_inline]] inline void nibble_step(const unsigned char* a, const unsigned char* codes,
                                               std::ptrdiff_t stride, typename S::I table,
                                               typename S::I (&c)[kRows][kColumns]) noexcept {
  const auto load = [&](int j) noexcept {
    return S::load_b(reinterpret_cast<const std::int8_t*>(codes + (j / S::kVectors) * stride +
                                                          (j % S::kVectors) * S::kBytesB));
  };
  constexpr int kHigh = kGroup == kGroupBytes ? kRows * kGroupBytes : kGroupBytes;
  const auto dot = [](typename S::I sum, typename S::I w, typename S::I x) noexcept {
    if constexpr (P::kNarrow) {
      return S::keep(S::dot16(sum, w, x));
    } else {
      return S::keep(S::dot(sum, w, x));
    }
  };
  if constexpr (kRows < kColumns) {  // the fewer operands are held, the others pass through
    const auto broadcast = [&](std::ptrdiff_t at) noexcept {
      const typename S::I x = S::broadcast_a(a + at);
      return kRows == 1 ? S::keep(x) : x;  // g++ would read one of the two from the stack
    };
    typename S::I low_a[kRows];
    typename S::I high_a[kRows];
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      low_a[r] = broadcast(r * kGroup);
      high_a[r] = broadcast(kHigh + r * kGroup);
    }
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const typename S::I both = load(j);
      const typename S::I low = P::integers(S::low_nibbles(both), table);
      const typename S::I high = P::integers(S::high_nibbles(both), table);
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) c[r][j] = dot(dot(c[r][j], low, low_a[r]), high, high_a[r]);
    }
  } else {
    KVANT_UNROLL
    for (int half = 0; half < 2; ++half) {
      typename S::I w[kColumns];
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        w[j] = P::integers(half == 0 ? S::low_nibbles(load(j)) : S::high_nibbles(load(j)), table);
      }
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const typename S::I x = S::broadcast_a(a + half * kHigh + r * kGroup);
        KVANT_UNROLL
        for (int j = 0; j < kColumns; ++j) c[r][j] = dot(c[r][j], w[j], x);
      }
    }
  }
}

/// acc[kRows][kPanels * S::kVectors * S::kLanes] = the float sums of a block of kRows rows times
/// kPanels panels. A function of its own, never inlined, so that the accumulators stay in
/// registers; and one for all groups, with what their chains begin at prepared for many at once: a
/// call for each chain took a sixth of the time of groups of 32.
template <class S, class P, int kRows, int kPanels, int kGroup = kGroupBytes>
[[gnu::noinline]] void nibble_tile(const NibbleTile& t, float* acc) noexcept {
  constexpr int kColumns = kPanels * S::kVectors;
  constexpr int kLine = S::kVectors * S::kBytesB;  // of a panel and step
  const NibblePanels w = t.w;
  const std::ptrdiff_t stride = t.stride;
  const typename S::I table = P::table();
  // k of a chain: those of a group, or as many as 16 bits can sum.
  const std::int64_t part = !P::kNarrow ? w.group : w.zero_points || w.group % 64 != 0 ? 32 : 64;
  alignas(64) std::int32_t starts[kPreparedChains * row_lanes<S>(kRows)];
  alignas(64) std::int32_t sums[P::kNarrow ? kRows * kColumns * S::kLanes : 1];
  KVANT_UNROLL
  for (int i = 0; i < kRows * kColumns; ++i) S::store_f32(acc + i * S::kLanes, S::set1(0.0f));
  const unsigned char* a = t.a;
  const unsigned char* header = t.b;
  const unsigned char* codes = header + w.header_bytes();
  Ahead ahead = t.ahead;
  std::int64_t in_group = 0;  // k of this group that are done
  [[maybe_unused]] std::int64_t at = 0;
  const std::int32_t* start = starts;
  const std::int32_t* prepared = starts;
  for (std::int64_t k = 0; k < w.k_padded; k += part) {
    if (P::kZero != 0 && start == prepared) {
      const std::int64_t left = (w.k_padded - k + part - 1) / part;
      const std::int64_t count = left < kPreparedChains ? left : kPreparedChains;
      prepare_starts<S, P, kRows>(t, k, part, count, starts);
      start = starts;
      prepared = starts + count * row_lanes<S>(kRows);
    }
    typename S::I c[kRows][kColumns];
    start_chain<S, P, kRows, kColumns>(w, header, stride, start, c);
    start += row_lanes<S>(kRows);
    const std::int64_t left = w.k_padded - k;
    for (std::int64_t step = (left < part ? left : part) / 8; step > 0; --step) {
      nibble_step<S, P, kGroup, kRows, kColumns>(a, codes, stride, table, c);
      if constexpr (kRows > kFewRows) {  // from the second-level cache; the next panel into it
        KVANT_UNROLL
        for (int line = 0; line < kLine; line += 64) {
          __builtin_prefetch(codes + kPrefetchBytes + line, 0, 3);
        }
        __builtin_prefetch(ahead.data, 0, 2);
        ahead.data += ahead.step;
      } else {
        fetch_streams<S, kPanels, kLine>(codes, stride);
      }
      if constexpr (kGroup == kGroupBytes || kRows == 1) {
        a += 2 * kRows * kGroupBytes;
      } else {
        a += 2 * kGroupBytes;
        at += 2 * kGroupBytes;
        if (at % kGroup == 0) a += (kRows - 1) * kGroup;
      }
      codes += kLine;
    }
    typename S::I d[kRows][kColumns];  // g++ would keep c in memory if it were used on
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      KVANT_UNROLL
      for (int j = 0; j < kColumns; ++j) {
        d[r][j] = S::keep(c[r][j]);
        if constexpr (P::kNarrow) d[r][j] = S::sum_pairs16(d[r][j]);
      }
    }
    if constexpr (P::kNarrow) {
      const bool first = in_group == 0;
      in_group += part;
      const bool last = in_group == w.group || k + part == w.k_padded;
      if (!first) {
        KVANT_UNROLL
        for (int i = 0; i < kRows * kColumns; ++i) {
          typename S::I& sum = d[i / kColumns][i % kColumns];
          sum = S::add_i(sum, S::load_i32(sums + i * S::kLanes));
        }
      }
      if (!last) {
        KVANT_UNROLL
        for (int i = 0; i < kRows * kColumns; ++i) {
          S::store_i32(sums + i * S::kLanes, d[i / kColumns][i % kColumns]);
        }
        continue;
      }
      in_group = 0;
    }
    // g++ would keep a second copy of the floats on the stack, and write both.
    asm volatile("" : : : "memory");
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const typename S::F scale = P::product_scale(P::scale(
          header + (j / S::kVectors) * stride + (j % S::kVectors) * S::kLanes * P::kScaleBytes));
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const int i = (r * kColumns + j) * S::kLanes;
        S::store_f32(acc + i, S::fma(S::to_f32(d[r][j]), scale, S::load_f32(acc + i)));
      }
    }
    header = codes;
    codes += w.header_bytes();
  }
}

template <class S, class P>
struct NibbleTiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &nibble_tile<S, P, kRows, kPanels>;
};

template <class S, class P>
void gemm_nibbles(const GemmArgs& args) noexcept {
  GemmArgs g = args;
  FoundWeights found(g);
  const std::int64_t k_padded = g.range.k_padded;
  walk_tiles<S, float>(
      g, g.nibbles.panel_bytes(), k_padded, k_padded / 8,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t stride, float* acc,
          Ahead ahead, std::int64_t row, int rows, const Panels& panels) {
        const NibbleTile tile = {
            a,         g.a_sums + row * sums_of_row(k_padded, ActivationSums::running),
            b,         stride,
            g.nibbles, ahead};
        find_tile<S, NibbleTiles<S, P>>(rows, panels.count > 1)(tile, acc);
      },
      [&](const float* acc, std::ptrdiff_t acc_stride, std::int64_t row, int rows,
          std::int64_t panel) {
        found.turn_to(panel, [&](float* weights) { gather_nibbles<S, P>(g, panel, weights); });
        group_epilogue<S>(g, acc, acc_stride, row, rows, panel);
      });
}

template <class S, class P>
constexpr GemmKernels nibble_kernels() noexcept {
  GemmKernels kernels;
  kernels.activations = ActivationFormat::s8;
  kernels.layout = {.nr = S::kVectors * S::kLanes, .kr = 8, .k_pad = 64, .align = 4 * S::kLanes};
  kernels.mr = S::kRows;
  kernels.group = kGroupBytes;
  kernels.sums = P::kNarrow ? ActivationSums::pairs : ActivationSums::running;
  kernels.gemm = &gemm_nibbles<S, P>;
  kernels.gather_columns = &gather_nibble_columns<S, P>;
  kernels.widen_panel = &widen_nibbles<S, P>;
  return kernels;
}

}  // namespace
}  // namespace kvant
