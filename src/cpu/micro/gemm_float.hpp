#pragma once

// GEMM of the float formats on the tiles of gemm.hpp: weights stay as they are in memory, sums are
// float32. A policy for each way of multiplying: floats by fma, float16 and bfloat16 weights
// widened and multiplied by fma (every instruction set), or pairs of bfloat16 by vdpbf16ps where
// the processor has it.

#include "cpu/micro/gemm.hpp"

namespace kvant {
namespace {

/// Weights [n / nr][k][nr] in float32, activations in float32.
template <class S>
struct FloatProduct {
  using Sum = typename S::F;
  using Operand = typename S::F;
  using Element = float;
  static constexpr ActivationFormat kActivations = ActivationFormat::f32;
  static constexpr int kGroup = 1;
  static constexpr int kBytesB = 4 * S::kLanes;
  static Sum zero() noexcept { return S::set1(0.0f); }
  static Operand broadcast_a(const unsigned char* p) noexcept {
    float value;
    __builtin_memcpy(&value, p, sizeof(value));
    return S::set1(value);
  }
  static Operand load_b(const unsigned char* p) noexcept {
    return S::load_f32(reinterpret_cast<const float*>(p));
  }
  static Sum dot(Sum sum, Operand a, Operand b) noexcept { return S::fma(a, b, sum); }
  static void store(Element* p, Sum v) noexcept { S::store_f32(p, v); }
};

/// The same with float16 weights, widened on the way in.
template <class S>
struct HalfProduct : FloatProduct<S> {
  static constexpr int kBytesB = 2 * S::kLanes;
  static typename S::F load_b(const unsigned char* p) noexcept {
    return S::load_f16(reinterpret_cast<const std::uint16_t*>(p));
  }
};

/// Weights and activations rounded to bfloat16, both widened.
template <class S>
struct WidenedProduct : FloatProduct<S> {
  static constexpr ActivationFormat kActivations = ActivationFormat::bf16_widened;
  static constexpr int kBytesB = 2 * S::kLanes;
  static typename S::F load_b(const unsigned char* p) noexcept {
    return S::load_bf16(reinterpret_cast<const std::uint16_t*>(p));
  }
};

/// Weights [n / nr][k / 2][nr][2], activations bf16: two products per lane and step.
template <class S>
struct PairProduct {
  using Sum = typename S::F;
  using Operand = typename S::I;
  using Element = float;
  static constexpr ActivationFormat kActivations = ActivationFormat::bf16;
  static constexpr int kGroup = 2;
  static constexpr int kBytesB = 4 * S::kLanes;
  static Sum zero() noexcept { return S::set1(0.0f); }
  static Operand broadcast_a(const unsigned char* p) noexcept { return S::broadcast_a(p); }
  static Operand load_b(const unsigned char* p) noexcept {
    return S::load_i32(reinterpret_cast<const std::int32_t*>(p));
  }
  static Sum dot(Sum sum, Operand a, Operand b) noexcept { return S::dot_bf16(sum, a, b); }
  static void store(Element* p, Sum v) noexcept { S::store_f32(p, v); }
};

template <class S, class P>
void gemm_float(const GemmArgs& g) noexcept {
  const std::int64_t groups = g.range.k_padded / P::kGroup;
  walk_tiles<S, float>(
      g, groups * S::kVectors * P::kBytesB, groups * kGroupBytes, groups,
      [&](const unsigned char* a, const unsigned char* b, std::ptrdiff_t panel_bytes, float* acc,
          Ahead ahead, std::int64_t /*block*/, int rows, const Panels& panels) {
        find_tile<S, GemmTiles<S, P>>(rows, panels.count > 1)(a, b, panel_bytes, groups, acc,
                                                              ahead);
      },
      [&](const float* acc, std::ptrdiff_t acc_stride, std::int64_t row, int rows,
          std::int64_t panel) { float_epilogue<S>(g, acc, acc_stride, row, rows, panel); });
}

template <class S, class P>
constexpr GemmKernels float_kernels() noexcept {
  return {.activations = P::kActivations,
          .layout = {.nr = S::kVectors * S::kLanes, .kr = P::kGroup, .k_pad = 2},
          .mr = S::kRows,
          .group = kGroupBytes,
          .gemm = &gemm_float<S, P>,
          .gather_columns = nullptr};
}

}  // namespace
}  // namespace kvant
