#pragma once

// The epilogue of the int8 GEMM: an int32 tile becomes floats, takes its outlier features and bias,
// and is narrowed once into y. See kvant::Epilogue for the formula and the order of the roundings.
// Cost per element: a handful of operations and 1 fma per outlier feature, against K / 4 dot steps.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// sums[kRows][S::kVectors] += x[row, j] * w[panel, j], over all j in ascending order.
template <class S, class W, int kRows>
inline void add_outliers(const OutlierBlock& block, std::int64_t row, std::int64_t panel,
                         typename S::F (&sums)[kRows][S::kVectors]) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const auto* w = static_cast<const typename W::type*>(block.w) + panel * block.count * kColumns;
  const float* x = block.x + row * block.x_stride;
  for (std::int64_t j = 0; j < block.count; ++j, w += kColumns) {
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) {
      const typename S::F wv = W::template load<S>(w + v * S::kLanes);
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) {
        sums[r][v] = S::fma(S::set1(x[r * block.x_stride + j]), wv, sums[r][v]);
      }
    }
  }
}

/// kRows rows of one panel. acc_stride: int32 elements between rows of acc.
template <class S, class Y, int kRows>
inline void finish_rows(const GemmArgs& g, const std::int32_t* acc, std::ptrdiff_t acc_stride,
                        std::int64_t row, std::int64_t panel) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const Epilogue& e = g.epilogue;
  typename S::F sums[kRows][S::kVectors];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) sums[r][v] = S::set1(0.0f);
  }
  bool outliers = false;
  for (const OutlierBlock& block : e.outliers) {
    if (block.count == 0) continue;
    outliers = true;
    with_float_type(block.w_dtype, [&](auto w) {
      add_outliers<S, decltype(w), kRows>(block, row, panel, sums);
    });
  }
  const std::int64_t n0 = panel * kColumns;
  for (int r = 0; r < kRows; ++r) {
    const typename S::F row_scale = S::set1(e.row_scale[row + r]);
    auto* y = static_cast<typename Y::type*>(e.y) + (row + r) * e.y_stride + n0;
    for (int v = 0; v < S::kVectors; ++v) {
      const std::int64_t n = n0 + v * S::kLanes;
      if (n >= g.n) break;
      typename S::I sum = S::load_i32(acc + r * acc_stride + v * S::kLanes);
      if (g.b_offset != nullptr) sum = S::sub_i(sum, S::load_i32(g.b_offset + n));
      const typename S::F scale = S::mul(row_scale, S::load_f32(e.col_scale + n));
      typename S::F value = S::mul(S::mul(S::to_f32(sum), scale), S::set1(e.scale));
      if (e.round_first) {
        if (e.bias != nullptr) value = S::add(value, S::load_f32(e.bias + n));
        if (outliers) value = S::add(Y::template round<S>(value), sums[r][v]);
      } else {
        if (outliers) value = S::add(value, sums[r][v]);
        if (e.bias != nullptr) value = S::add(value, S::load_f32(e.bias + n));
      }
      store_floats<S, Y>(y + v * S::kLanes, value, g.n - n);
    }
  }
}

template <class S>
inline void store_accumulators(const GemmArgs& g, const std::int32_t* acc, std::ptrdiff_t acc_stride,
                               std::int64_t row, int rows, std::int64_t panel) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const std::int64_t n0 = panel * kColumns;
  for (int r = 0; r < rows; ++r) {
    auto* y = static_cast<std::int32_t*>(g.epilogue.y) + (row + r) * g.epilogue.y_stride + n0;
    for (int v = 0; v < S::kVectors; ++v) {
      const std::int64_t n = n0 + v * S::kLanes;
      if (n >= g.n) break;
      typename S::I sum = S::load_i32(acc + r * acc_stride + v * S::kLanes);
      if (g.b_offset != nullptr) sum = S::sub_i(sum, S::load_i32(g.b_offset + n));
      if (g.n - n >= S::kLanes) {
        S::store_i32(y + v * S::kLanes, sum);
      } else {
        alignas(64) std::int32_t buffer[S::kLanes];
        S::store_i32(buffer, sum);
        __builtin_memcpy(y + v * S::kLanes, buffer, static_cast<std::size_t>(g.n - n) * sizeof(*y));
      }
    }
  }
}

/// acc is [rows][panels * columns of a panel], as gemm_tile leaves it.
template <class S>
[[gnu::noinline]] void epilogue(const GemmArgs& g, const std::int32_t* acc, std::int64_t row,
                                int rows, std::int64_t panel, int panels) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const std::ptrdiff_t acc_stride = static_cast<std::ptrdiff_t>(panels) * kColumns;
  for (int p = 0; p < panels; ++p, acc += kColumns) {
    if (g.epilogue.y_dtype == DType::int32) {
      store_accumulators<S>(g, acc, acc_stride, row, rows, panel + p);
      continue;
    }
    with_float_type(g.epilogue.y_dtype, [&](auto y) {
      int r = 0;
      for (; r + 4 <= rows; r += 4) {
        finish_rows<S, decltype(y), 4>(g, acc + r * acc_stride, acc_stride, row + r, panel + p);
      }
      for (; r < rows; ++r) {
        finish_rows<S, decltype(y), 1>(g, acc + r * acc_stride, acc_stride, row + r, panel + p);
      }
    });
  }
}

}  // namespace
}  // namespace kvant
