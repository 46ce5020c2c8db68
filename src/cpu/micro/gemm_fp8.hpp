#pragma once

// fp8 and fp8-block: the real values of weights in float32, times activations in float32. Elements
// lie one by one, [k][nr]; their scales beside them. Few rows are multiplied where elements become
// floats, in registers; for many a panel is widened first, and the float product takes it. The same
// fma for the same k in the same order: the same bits.

#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_float.hpp"

namespace kvant {
namespace {

/// Elements of e4m3, as signed bytes in the lanes. Sign, exponent and mantissa go to their places
/// in a float32, whose exponent is then 120 too small: numbers below the normal ones are right too.
/// (The code that is no number is refused where weights are made.)
template <class S>
typename S::F e4m3_to_f32(typename S::I bytes) noexcept {
  const typename S::F places = S::set1(__builtin_bit_cast(float, 0x87F00000u));
  return S::mul(S::bit_and(places, S::shift_left(bytes, 20)), S::set1(0x1p120f));
}

/// The scales of the outputs of a panel for inputs from `block` on. (Behind the last input there
/// are none, and elements are 0.)
template <class S>
void fp8_scales(const ScaleGrid& grid, std::int64_t panel, std::int64_t block, float* to) noexcept {
  constexpr int kNr = S::kVectors * S::kLanes;
  for (int n = 0; n < kNr; ++n) {
    to[n] = block < grid.count ? grid.scales[(panel * kNr + n) * grid.count + block] : 0.0f;
  }
}

/// f(block, first input, inputs) for inputs that share scales, in order.
template <class F>
inline void by_scales(const ScaleGrid& grid, std::int64_t k_padded, F&& f) noexcept {
  for (std::int64_t k = 0, block = 0; k < k_padded; ++block) {
    const std::int64_t left = k_padded - k;
    const std::int64_t length = grid.block == 0 || grid.block > left ? left : grid.block;
    f(block, k, length);
    k += length;
  }
}

/// acc[kRows][kPanels * S::kVectors * S::kLanes] += the products of `length` inputs that share
/// scales, [kPanels * S::kVectors * S::kLanes].
template <class S, int kRows, int kPanels>
[[gnu::noinline]] void fp8_tile(const unsigned char* a, const unsigned char* b,
                                std::ptrdiff_t stride, std::int64_t length, const float* scales,
                                float* acc) noexcept {
  constexpr int kColumns = kPanels * S::kVectors;
  typename S::F c[kRows][kColumns];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) c[r][j] = S::load_f32(acc + (r * kColumns + j) * S::kLanes);
  }
  for (std::int64_t k = 0; k < length; ++k) {
    typename S::F x[kRows];
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) x[r] = FloatProduct<S>::broadcast_a(a + r * kGroupBytes);
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) {
      const auto* at = reinterpret_cast<const std::int8_t*>(b + (j / S::kVectors) * stride +
                                                            (j % S::kVectors) * S::kLanes);
      const typename S::F w =
          S::mul(e4m3_to_f32<S>(S::load_i8(at)), S::load_f32(scales + j * S::kLanes));
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) c[r][j] = S::fma(x[r], w, c[r][j]);
    }
    a += kRows * kGroupBytes;
    b += S::kVectors * S::kLanes;
  }
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int j = 0; j < kColumns; ++j) S::store_f32(acc + (r * kColumns + j) * S::kLanes, c[r][j]);
  }
}

template <class S>
struct Fp8Tiles {
  template <int kRows, int kPanels>
  static constexpr auto kTile = &fp8_tile<S, kRows, kPanels>;
};

/// Up to kFewRows rows.
template <class S>
void gemm_fp8(const GemmArgs& g) noexcept {
  constexpr int kNr = S::kVectors * S::kLanes;
  const std::int64_t k_padded = g.range.k_padded;
  walk_tiles<S, float>(
      g, k_padded * kNr, k_padded * kGroupBytes, k_padded,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t stride, float* acc,
          Ahead /*ahead*/, std::int64_t /*row*/, int rows, const Panels& panels) {
        const auto tile = find_tile<S, Fp8Tiles<S>, kFewRows>(rows, panels.count > 1);
        alignas(64) float scales[S::panels(1) * kNr];
        for (int i = 0; i < S::kMaxAccumulators; ++i) {
          S::store_f32(acc + i * S::kLanes, S::set1(0.0f));
        }
        by_scales(g.scales, k_padded,
                  [&](std::int64_t block, std::int64_t k, std::int64_t length) noexcept {
                    for (int p = 0; p < panels.count; ++p) {
                      fp8_scales<S>(g.scales, panels[p], block, scales + p * kNr);
                    }
                    tile(a + k * rows * kGroupBytes, b + k * kNr, stride, length, scales, acc);
                  });
      },
      [&](const float* acc, std::ptrdiff_t acc_stride, std::int64_t row, int rows,
          std::int64_t panel) { float_epilogue<S>(g, acc, acc_stride, row, rows, panel); });
}

template <class S>
void widen_fp8(const GemmArgs& g, float* to) noexcept {
  constexpr int kNr = S::kVectors * S::kLanes;
  const std::int64_t panel = g.range.panel_begin;
  const auto* codes = static_cast<const std::int8_t*>(g.b) + panel * kNr * g.range.k_padded;
  by_scales(g.scales, g.range.k_padded,
            [&](std::int64_t block, std::int64_t first, std::int64_t length) noexcept {
              alignas(64) float scales[kNr];
              fp8_scales<S>(g.scales, panel, block, scales);
              for (std::int64_t k = first; k < first + length; ++k) {
                for (int v = 0; v < kNr; v += S::kLanes) {
                  const typename S::F value = e4m3_to_f32<S>(S::load_i8(codes + k * kNr + v));
                  S::store_f32(to + k * kNr + v, S::mul(value, S::load_f32(scales + v)));
                }
              }
            });
}

/// Laid out for the float product.
template <class S>
constexpr GemmKernels fp8_kernels() noexcept {
  GemmKernels kernels = float_kernels<S, FloatProduct<S>>();
  kernels.gemm = &gemm_fp8<S>;
  kernels.most_rows = kFewRows;
  kernels.widen_panel = &widen_fp8<S>;
  return kernels;
}

}  // namespace
}  // namespace kvant
