#pragma once

// Columns of the packed weights as floats (OutlierColumns), one panel at a time: the weights of
// outlier features. Called from inside the GEMM, where the panel is in the caches anyway; a pass of
// its own over cold weights would fetch a cache line for every four bytes it wants.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// to [count][nr] = the codes, as floats
/// @tparam kGroup  of k that lie together: a lane's four, or more
template <class S, int kGroup>
inline void widen_columns(const GemmArgs& g, std::int64_t panel, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  const auto* codes = static_cast<const std::int8_t*>(g.b) + panel * kColumns * g.range.k_padded;
  for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j, to += kColumns) {
    const std::int64_t k = g.columns.columns[j];
    const std::int8_t* group = codes + k / kGroup * kColumns * kGroup;
    if constexpr (kGroup == 4) {
      const auto* words = reinterpret_cast<const std::int32_t*>(group);
      KVANT_UNROLL
      for (int v = 0; v < kColumns; v += S::kLanes) {
        const typename S::I code = S::signed_byte(S::load_i32(words + v), static_cast<int>(k % 4));
        S::store_f32(to + v, S::to_f32(code));
      }
    } else {
      for (int n = 0; n < kColumns; ++n) {
        to[n] = static_cast<float>(group[n * kGroup + k % kGroup]);
      }
    }
  }
}

template <class S, int kGroup>
[[gnu::noinline]] void gather_panel(const GemmArgs& g, std::int64_t panel, float* to) noexcept {
  constexpr int kColumns = S::kVectors * S::kLanes;
  widen_columns<S, kGroup>(g, panel, to);
  const typename S::F factor = S::set1(g.columns.factor);
  with_float_type(g.columns.rounded_to, [&](auto type) {
    for (int v = 0; v < kColumns; v += S::kLanes) {
      const typename S::F scale = S::load_f32(g.columns.scale + panel * kColumns + v);
      for (std::int64_t j = 0; j < g.epilogue.outliers.found.count; ++j) {
        float* w = to + j * kColumns + v;
        const typename S::F value = S::mul(S::mul(S::load_f32(w), scale), factor);
        S::store_f32(w, decltype(type)::template round<S>(value));
      }
    }
  });
}

template <class S, int kGroup>
void gather_columns(const GemmArgs& g, float* w) noexcept {
  for (std::int64_t panel = g.range.panel_begin; panel < g.range.panel_end; ++panel) {
    gather_panel<S, kGroup>(g, panel,
                            w + panel * g.epilogue.outliers.found.count * S::kVectors * S::kLanes);
  }
}

}  // namespace
}  // namespace kvant
