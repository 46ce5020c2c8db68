#pragma once

// The epilogue: an int32 tile becomes floats (one of groups, whose sums are floats already, takes
// its rows' scales), takes its outlier features and bias, and is narrowed once into y; a float tile
// takes its bias. See kvant::Epilogue for the formula and the order of the roundings. Cost per
// element: a handful of operations and 1 fma per outlier feature, against K / 4 dot steps.

#include "cpu/micro/simd_common.hpp"
#include "cpu/micro/simd_concept.hpp"

namespace kvant {
namespace {

/// sums[kRows][S::kVectors] += x[row, j] * w[panel, j], over all j in ascending order.
template <class S, class W, int kRows>
inline void add_outliers(const OutlierBlock& block, std::int64_t row, std::int64_t panel,
                         typename S::F (&sums)[kRows][S::kVectors]) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const auto* w = static_cast<const typename W::type*>(block.w) + panel * block.w_stride;
  const float* x = block.x + row;
  for (std::int64_t j = 0; j < block.count; ++j, w += kColumns, x += block.x_stride) {
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) {
      const typename S::F wv = W::template load<S>(w + v * S::kLanes);
      KVANT_UNROLL
      for (int r = 0; r < kRows; ++r) sums[r][v] = S::fma(S::set1(x[r]), wv, sums[r][v]);
    }
  }
}

/// kRows rows of one panel. acc_stride: elements between rows of acc. kWhole: the panel lies
/// inside N. Straight-line code: with branches per vector it took twice as long, a tenth of the
/// product at K = 256.
template <class S, class Y, int kRows, bool kBiasFirst, bool kWhole, class Element>
[[gnu::noinline]] void finish_rows(const GemmArgs& g, const Element* acc, std::ptrdiff_t acc_stride,
                                   std::int64_t row, std::int64_t panel) noexcept {
  constexpr bool kGroups = Is<Element, float>;
  constexpr int kColumns = S::kVectors * S::kLanes;
  const Epilogue& e = g.epilogue;
  // x + -0 is x, bit for bit, whatever x is: what is absent needs no branch.
  const typename S::F nothing = S::set1(-0.0f);
  const bool outliers = e.outliers.count() > 0;
  typename S::F sums[kRows][S::kVectors];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) {
    KVANT_UNROLL
    for (int v = 0; v < S::kVectors; ++v) sums[r][v] = outliers ? S::set1(0.0f) : nothing;
  }
  for (const OutlierBlock* block : {&e.outliers.kept, &e.outliers.found}) {
    if (block->count == 0) continue;
    with_float_type(block->w_dtype,
                    [&](auto w) { add_outliers<S, decltype(w), kRows>(*block, row, panel, sums); });
  }
  const std::int64_t n0 = panel * kColumns;
  auto* y = static_cast<typename Y::type*>(e.y) + row * e.y_stride + n0;
  typename S::F row_scale[kRows];
  KVANT_UNROLL
  for (int r = 0; r < kRows; ++r) row_scale[r] = S::set1(e.row_scale[row + r]);
  const typename S::F constant = S::set1(e.scale);
  KVANT_UNROLL
  for (int v = 0; v < S::kVectors; ++v) {
    const std::int64_t n = n0 + v * S::kLanes;
    if (!kWhole && n >= g.range.n) break;
    typename S::I offset = S::zero_i();
    typename S::F col_scale = nothing;
    if constexpr (!kGroups) {
      if (g.b_offset != nullptr) offset = S::load_i32(g.b_offset + n);
      col_scale = S::load_f32(e.col_scale + n);
    }
    const typename S::F bias = e.bias == nullptr ? nothing : S::load_f32(e.bias + n);
    KVANT_UNROLL
    for (int r = 0; r < kRows; ++r) {
      typename S::F value;
      if constexpr (kGroups) {
        value = S::mul(S::load_f32(acc + r * acc_stride + v * S::kLanes), row_scale[r]);
      } else {
        const typename S::I sum =
            S::sub_i(S::load_i32(acc + r * acc_stride + v * S::kLanes), offset);
        const typename S::F scale = S::mul(row_scale[r], col_scale);
        value = S::mul(S::mul(S::to_f32(sum), scale), constant);
      }
      if constexpr (kBiasFirst) {
        value = S::add(Y::template round<S>(S::add(value, bias)), sums[r][v]);
      } else {
        value = S::add(S::add(value, sums[r][v]), bias);
      }
      auto* to = y + r * e.y_stride + v * S::kLanes;
      if constexpr (kWhole) {
        Y::template store<S>(to, value);
      } else {
        store_floats<S, Y>(to, value, g.range.n - n);
      }
    }
  }
}

/// All rows of one panel.
template <class S, class Y, bool kBiasFirst, class Element>
inline void finish_panel(const GemmArgs& g, const Element* acc, std::ptrdiff_t acc_stride,
                         std::int64_t row, int rows, std::int64_t panel) noexcept {
  if ((panel + 1) * S::kVectors * S::kLanes > g.range.n) {
    for (int r = 0; r < rows; ++r) {
      finish_rows<S, Y, 1, kBiasFirst, false>(g, acc + r * acc_stride, acc_stride, row + r, panel);
    }
    return;
  }
  int r = 0;
  for (; r + 4 <= rows; r += 4) {
    finish_rows<S, Y, 4, kBiasFirst, true>(g, acc + r * acc_stride, acc_stride, row + r, panel);
  }
  if (r + 2 <= rows) {
    finish_rows<S, Y, 2, kBiasFirst, true>(g, acc + r * acc_stride, acc_stride, row + r, panel);
    r += 2;
  }
  if (r < rows) {
    finish_rows<S, Y, 1, kBiasFirst, true>(g, acc + r * acc_stride, acc_stride, row + r, panel);
  }
}

template <class S>
inline void store_accumulators(const GemmArgs& g, const std::int32_t* acc,
                               std::ptrdiff_t acc_stride, std::int64_t row, int rows,
                               std::int64_t panel) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const std::int64_t n0 = panel * kColumns;
  for (int r = 0; r < rows; ++r) {
    auto* y = static_cast<std::int32_t*>(g.epilogue.y) + (row + r) * g.epilogue.y_stride + n0;
    for (int v = 0; v < S::kVectors; ++v) {
      const std::int64_t n = n0 + v * S::kLanes;
      if (n >= g.range.n) break;
      typename S::I sum = S::load_i32(acc + r * acc_stride + v * S::kLanes);
      if (g.b_offset != nullptr) sum = S::sub_i(sum, S::load_i32(g.b_offset + n));
      if (g.range.n - n >= S::kLanes) {
        S::store_i32(y + v * S::kLanes, sum);
      } else {
        alignas(64) std::int32_t buffer[S::kLanes];
        S::store_i32(buffer, sum);
        __builtin_memcpy(y + v * S::kLanes, buffer,
                         static_cast<std::size_t>(g.range.n - n) * sizeof(*y));
      }
    }
  }
}

/// The float sums of one panel: y = narrow(sum + bias).
template <class S>
[[gnu::noinline]] void float_epilogue(const GemmArgs& g, const float* acc,
                                      std::ptrdiff_t acc_stride, std::int64_t row, int rows,
                                      std::int64_t panel) noexcept {
  const Epilogue& e = g.epilogue;
  with_float_type(e.y_dtype, [&](auto type) {
    using Y = decltype(type);
    for (int r = 0; r < rows; ++r) {
      for (int v = 0; v < S::kVectors; ++v) {
        const std::int64_t n = (panel * S::kVectors + v) * S::kLanes;
        if (n >= g.range.n) break;
        typename S::F value = S::load_f32(acc + r * acc_stride + v * S::kLanes);
        if (e.bias != nullptr) value = S::add(value, S::load_f32(e.bias + n));
        auto* y = static_cast<typename Y::type*>(e.y) + (row + r) * e.y_stride + n;
        store_floats<S, Y>(y, value, g.range.n - n);
      }
    }
  });
}

/// The integer sums of one panel; acc_stride: elements from row to row.
template <class S>
[[gnu::noinline]] void epilogue(const GemmArgs& g, const std::int32_t* acc,
                                std::ptrdiff_t acc_stride, std::int64_t row, int rows,
                                std::int64_t panel) noexcept {
  if (g.epilogue.y_dtype == DType::int32) {
    store_accumulators<S>(g, acc, acc_stride, row, rows, panel);
    return;
  }
  with_float_type(g.epilogue.y_dtype, [&](auto y) {
    using Y = decltype(y);
    (g.epilogue.bias_first
         ? &finish_panel<S, Y, true, std::int32_t>
         : &finish_panel<S, Y, false, std::int32_t>)(g, acc, acc_stride, row, rows, panel);
  });
}

/// The float sums of one panel of a format with groups.
template <class S>
[[gnu::noinline]] void group_epilogue(const GemmArgs& g, const float* acc,
                                      std::ptrdiff_t acc_stride, std::int64_t row, int rows,
                                      std::int64_t panel) noexcept {
  with_float_type(g.epilogue.y_dtype, [&](auto y) {
    finish_panel<S, decltype(y), false>(g, acc, acc_stride, row, rows, panel);
  });
}

}  // namespace
}  // namespace kvant
