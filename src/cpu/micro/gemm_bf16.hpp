#pragma once

// bfloat16 GEMM on the tiles of gemm.hpp: weights stay bf16 in memory, sums are float32.
// Two policies: widen the weights and use fma (every instruction set), or multiply pairs with
// vdpbf16ps where the processor has it.

#include "cpu/micro/gemm.hpp"

namespace kvant {
namespace {

/// Weights [n / nr][k][nr] widened on the way in; activations are floats.
template <class S>
struct WidenedProduct {
  using Sum = typename S::F;
  using Operand = typename S::F;
  using Element = float;
  static constexpr HalfFormat kActivations = HalfFormat::f32;
  static constexpr int kGroup = 1;
  static constexpr int kBytesB = 2 * S::kLanes;
  static Sum zero() noexcept { return S::set1(0.0f); }
  static Operand broadcast_a(const unsigned char* p) noexcept {
    float value;
    __builtin_memcpy(&value, p, sizeof(value));
    return S::set1(value);
  }
  static Operand load_b(const unsigned char* p) noexcept {
    return S::load_bf16(reinterpret_cast<const std::uint16_t*>(p));
  }
  static Sum dot(Sum sum, Operand a, Operand b) noexcept { return S::fma(a, b, sum); }
  static void store(Element* p, Sum v) noexcept { S::store_f32(p, v); }
};

/// Weights [n / nr][k / 2][nr][2], activations bf16: two products per lane and step.
template <class S>
struct PairProduct {
  using Sum = typename S::F;
  using Operand = typename S::I;
  using Element = float;
  static constexpr HalfFormat kActivations = HalfFormat::bf16;
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
void gemm_bf16(const HalfGemmArgs& g) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const auto tile = [](const unsigned char* a, const unsigned char* b, std::ptrdiff_t panel_bytes,
                       std::int64_t groups, float* acc, Ahead ahead, int rows,
                       const Panels& panels) {
    find_tile<S, P>(rows, panels.count > 1)(a, b, panel_bytes, groups, acc, ahead);
  };
  const auto finish_panel = [&](const float* acc, std::ptrdiff_t acc_stride, std::int64_t row,
                                int rows, std::int64_t panel) {
    with_float_type(g.y_dtype, [&](auto type) {
      using Y = decltype(type);
      for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < S::kVectors; ++v) {
          const std::int64_t n = panel * kColumns + v * S::kLanes;
          if (n >= g.n) break;
          typename S::F value = S::load_f32(acc + r * acc_stride + v * S::kLanes);
          if (g.bias != nullptr) value = S::add(value, S::load_f32(g.bias + n));
          auto* y = static_cast<typename Y::type*>(g.y) + (row + r) * g.y_stride + n;
          store_floats<S, Y>(y, value, g.n - n);
        }
      }
    });
  };
  walk_tiles<S, P>(g, tile, finish_panel);
}

template <class S, class P>
constexpr HalfKernels half_kernels() noexcept {
  return {.layout = {.nr = S::kVectors * S::kLanes, .kr = P::kGroup, .k_pad = 2},
          .activations = P::kActivations,
          .gemm = &gemm_bf16<S, P>};
}

}  // namespace
}  // namespace kvant
