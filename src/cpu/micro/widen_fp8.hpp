#pragma once

// fp8 and fp8-block: a panel's real values in float32, for the float product. Elements lie one by
// one, [k][nr]; their scales beside them.

#include "cpu/micro/gemm.hpp"
#include "cpu/micro/gemm_float.hpp"

namespace kvant {
namespace {

/// Elements of e4m3 in the lanes' low bytes. Sign, exponent and mantissa go to their places in a
/// float32, whose exponent is then 120 too small: numbers below the normal ones are right too. (The
/// code that is no number is refused where weights are made.)
template <class S>
typename S::F e4m3_to_f32(typename S::I bits) noexcept {
  const typename S::I magnitude = S::and_i(bits, S::set1_i(0x7F));
  const typename S::I sign = S::mul_i(S::and_i(bits, S::set1_i(0x80)), S::set1_i(1 << 24));
  const typename S::I placed = S::xor_i(S::mul_i(magnitude, S::set1_i(1 << 20)), sign);
  const typename S::F all_ones = S::set1(__builtin_bit_cast(float, 0xFFFFFFFFu));
  return S::mul(S::bit_and(all_ones, placed), S::set1(0x1p120f));
}

template <class S>
void widen_fp8(const GemmArgs& g, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const ScaleGrid& grid = g.scales;
  const std::int64_t first = g.range.panel_begin * kColumns;
  const auto* codes = static_cast<const std::uint8_t*>(g.b) + first * g.range.k_padded;
  for (std::int64_t k = 0, block = 0; k < g.range.k_padded; ++block) {
    // (Behind the last input there are no scales, and elements are 0.)
    float scales[kColumns];
    for (int n = 0; n < kColumns; ++n) {
      scales[n] = block < grid.count ? grid.scales[(first + n) * grid.count + block] : 0.0f;
    }
    const std::int64_t end =
        grid.block == 0 || k + grid.block > g.range.k_padded ? g.range.k_padded : k + grid.block;
    for (; k < end; ++k) {
      for (int v = 0; v < kColumns; v += S::kLanes) {
        const typename S::F value = e4m3_to_f32<S>(S::load_u8(codes + k * kColumns + v));
        S::store_f32(to + k * kColumns + v, S::mul(value, S::load_f32(scales + v)));
      }
    }
  }
}

/// They are laid out for the float product, which multiplies what they are widened to.
template <class S>
constexpr GemmKernels fp8_kernels() noexcept {
  GemmKernels kernels = float_kernels<S, FloatProduct<S>>();
  kernels.gemm = nullptr;
  kernels.widen_panel = &widen_fp8<S>;
  return kernels;
}

}  // namespace
}  // namespace kvant
