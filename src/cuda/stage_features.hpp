#pragma once

// Outlier features into shared memory. Every value is a load behind a load (the list names a
// column, the column has a code), so the loads of many values are on their way together: first all
// places, then all values, without a branch between them.

#include "cuda/outliers.hpp"

namespace kvant {
namespace {

/// to[f * stride + i] for f in [begin, end), i < kItems, by kThreads threads.
/// @param place  (f, i) -> where its value is; negative: nowhere, then it is 0
/// @param load   (place, i) -> what is there  @param value  that -> float
template <int kThreads, int kItems, class Place, class Load, class Value>
KVANT_DEVICE void stage_items(int thread, int begin, int end, float* to, int stride, Place place,
                              Load load, Value value) {
  constexpr int kAtOnce = 4;  // beside the sums of a tile, no registers for more
  for (int start = begin * kItems + thread; start < end * kItems; start += kAtOnce * kThreads) {
    std::int64_t places[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int i = start + u * kThreads;
      places[u] = i < end * kItems ? place(i / kItems, i % kItems) : -1;
    }
    decltype(load(std::int64_t{0}, 0)) raw[kAtOnce];
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      raw[u] = {};
      if (places[u] >= 0) raw[u] = load(places[u], (start + u * kThreads) % kItems);
    }
#pragma unroll
    for (int u = 0; u < kAtOnce; ++u) {
      const int i = start + u * kThreads;
      if (i < end * kItems) {
        to[i / kItems * stride + i % kItems] = places[u] >= 0 ? value(raw[u]) : 0.0f;
      }
    }
  }
}

/// Calls with the element type as a constant, so that no load waits behind a branch on it.
template <class Call>
KVANT_DEVICE void with_float_type(DType dtype, Call call) {
  switch (dtype) {
    case DType::float16: return call([](std::uint16_t b) { return device::half_to_float(b); });
    case DType::bfloat16: return call([](std::uint16_t b) { return device::bfloat_to_float(b); });
    default: return call([](float v) { return v; });
  }
}
template <class From>
struct ArgumentOf;
template <class F, class T>
struct ArgumentOf<float (F::*)(T) const> {
  using Type = T;
};

/// Activations of features [first, first + count), rows [m0, m0 + kRows): x[feature][row].
template <int kThreads, int kRows>
KVANT_DEVICE void stage_activations(const GemmArgs& g, int thread, std::int64_t first, int count,
                                    float* x, std::int64_t m0) {
  const OutlierBlock& kept = g.epilogue.outliers.kept;
  const OutlierBlock& found = g.epilogue.outliers.found;
  const std::int64_t left = kept.count - first;
  const int split = left < 0 ? 0 : left < count ? static_cast<int>(left) : count;
  const auto gathered = [&](int begin, int end, const OutlierBlock& block, std::int64_t from) {
    stage_items<kThreads, kRows>(
        thread, begin, end, x, kRows,
        [&](int f, int r) {
          return m0 + r < g.range.m ? (from + f) * block.x_stride + m0 + r : std::int64_t{-1};
        },
        [&](std::int64_t at, int) { return block.x[at]; }, [](float v) { return v; });
  };
  gathered(0, split, kept, first);
  if (found.x != nullptr) return gathered(split, count, found, first - kept.count);
  if (split == count) return;
  with_float_type(g.x.dtype, [&](auto widen) {
    using T = typename ArgumentOf<decltype(&decltype(widen)::operator())>::Type;
    stage_items<kThreads, kRows>(
        thread, split, count, x, kRows,
        [&](int f, int r) {
          return m0 + r < g.range.m
                     ? (m0 + r) * g.x.stride + g.columns.columns[first + f - kept.count]
                     : std::int64_t{-1};
        },
        [&](std::int64_t at, int) { return static_cast<const T*>(g.x.data)[at]; },
        [&](T raw) {
          const float value = widen(raw);
          return g.threshold == 0.0f || absolute(value) >= g.threshold ? value : 0.0f;
        });
  });
}

/// Weights of features [first, first + count), outputs [n0, n0 + kColumns): w[feature][output].
template <int kThreads, int kColumns, class Weights>
KVANT_DEVICE void stage_weights(const GemmArgs& g, int thread, std::int64_t first, int count,
                                float* w, int w_stride, std::int64_t n0) {
  const OutlierBlock& kept = g.epilogue.outliers.kept;
  const OutlierBlock& found = g.epilogue.outliers.found;
  const std::int64_t left = kept.count - first;
  const int split = left < 0 ? 0 : left < count ? static_cast<int>(left) : count;
  const auto given = [&](int begin, int end, const OutlierBlock& block, std::int64_t from) {
    if (begin == end) return;
    with_float_type(block.w_dtype, [&](auto widen) {
      using T = typename ArgumentOf<decltype(&decltype(widen)::operator())>::Type;
      stage_items<kThreads, kColumns>(
          thread, begin, end, w, w_stride,
          [&](int f, int c) {
            return n0 + c < g.range.n ? (n0 + c) * block.w_stride + from + f : std::int64_t{-1};
          },
          [&](std::int64_t at, int) { return static_cast<const T*>(block.w)[at]; },
          [&](T raw) { return widen(raw); });
    });
  };
  given(0, split, kept, first);
  if (found.w != nullptr) return given(split, count, found, first - kept.count);
  stage_items<kThreads, kColumns>(
      thread, split, count, w, w_stride,
      [&](int f, int c) {
        return n0 + c < g.range.n ? g.columns.columns[first + f - kept.count] : std::int64_t{-1};
      },
      [&](std::int64_t k, int c) { return Weights::load(g, n0 + c, k); },
      [&](const typename Weights::Raw& raw) { return Weights::value(g, raw); });
}

/// Both. @param w_stride  of w; x has kRows
template <int kThreads, int kRows, int kColumns, class Weights = Int8Weights>
KVANT_DEVICE void stage_features(const GemmArgs& g, int thread, std::int64_t first, int count,
                                 float* x, std::int64_t m0, float* w, int w_stride,
                                 std::int64_t n0) {
  stage_activations<kThreads, kRows>(g, thread, first, count, x, m0);
  stage_weights<kThreads, kColumns, Weights>(g, thread, first, count, w, w_stride, n0);
}

}  // namespace
}  // namespace kvant
