#pragma once

// The kernels, for the instruction set that the including file is compiled for. It includes this
// after declaring, in an unnamed namespace, kPartLanes, the floats of a register, kRows and
// kChunks, the tile of sums that its registers hold, and widen(), a register of floats from int8
// codes or from the bits of bfloat16: one or two instructions, for which g++ 12 takes six where
// vectors are converted in its own terms. Nothing of the standard library, and everything in the
// unnamed namespace: a function that is compiled for one set must not be the copy that the linker
// keeps for all.

#include "models/vector/kernels.hpp"

namespace kvant::models {
namespace {

constexpr int kLanes = 16;
constexpr int kParts = kLanes / kPartLanes;
constexpr int kScoreRows = kRows == 4 ? 4 : 2;  // times two sums
constexpr int kDotOutputs = kParts == 4 ? 2 : 4;

// What a register holds, and sixteen lanes of it. (Compilers keep vectors that are wider than a
// register in memory.)
using Part = float __attribute__((vector_size(kPartLanes * 4)));
using IntPart = std::int32_t __attribute__((vector_size(kPartLanes * 4)));
struct Vec {
  Part p[kParts];
};

template <class Function>
inline Vec each(Function function) {
  Vec result;
  for (int i = 0; i < kParts; ++i) result.p[i] = function(i);
  return result;
}
inline Part splat_part(float x) {
  return x - Part{};
}
inline Vec splat(float x) {
  return each([&](int) { return splat_part(x); });
}
inline Vec operator*(Vec a, Vec b) {
  return each([&](int i) { return a.p[i] * b.p[i]; });
}
inline Vec operator*(Vec a, float b) {
  return each([&](int i) { return a.p[i] * b; });
}
inline Vec operator+(Vec a, Vec b) {
  return each([&](int i) { return a.p[i] + b.p[i]; });
}
inline Vec operator-(Vec a, float b) {
  return each([&](int i) { return a.p[i] - b; });
}
inline Vec larger(Vec a, Vec b) {
  return each([&](int i) { return a.p[i] > b.p[i] ? a.p[i] : b.p[i]; });
}

// Nothing is aligned to registers. (A vector type with less alignment would say so; clang forgets
// it.)
inline Vec load(const float* p) {
  return each([&](int i) {
    Part part;
    __builtin_memcpy(&part, p + i * kPartLanes, sizeof(part));
    return part;
  });
}
/// Int8 codes, or the bits of bfloat16.
template <class T>
inline Vec load(const T* p) {
  return each([&](int i) { return widen(p + i * kPartLanes); });
}
inline void store(float* p, Vec v) {
  for (int i = 0; i < kParts; ++i) __builtin_memcpy(p + i * kPartLanes, &v.p[i], sizeof(Part));
}
template <class T>
inline Vec load_part(const T* p, std::int64_t count) {
  float lanes[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = static_cast<float>(p[i]);
  return load(lanes);
}
inline Vec load_part(const std::uint16_t* p, std::int64_t count) {
  std::uint16_t lanes[kLanes] = {};
  for (std::int64_t i = 0; i < count; ++i) lanes[i] = p[i];
  return load(lanes);
}
inline void store_part(float* p, Vec v, std::int64_t count) {
  float lanes[kLanes];
  store(lanes, v);
  for (std::int64_t i = 0; i < count; ++i) p[i] = lanes[i];
}

inline float largest(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  float result = lanes[0];
  for (int i = 1; i < kLanes; ++i) result = lanes[i] > result ? lanes[i] : result;
  return result;
}
inline float sum(Vec v) {
  float lanes[kLanes];
  store(lanes, v);
  float result = 0;
  for (int i = 0; i < kLanes; ++i) result += lanes[i];
  return result;
}

/// e^x to an ulp: 2^n times the series of the rest, whose first term left out is below 6e-9. Below
/// -87 it is 0.
inline Part exp(Part x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the unit of a float there is 1
  const Part low = splat_part(-87.0f);
  const Part high = splat_part(88.0f);
  const IntPart tiny = x < low;
  x = tiny ? low : x;
  x = x > high ? high : x;
  const Part n = (x * 1.44269504f + kShift) - kShift;
  const Part r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
  Part p = splat_part(1.0f / 5040);
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * (r * r) + r + 1.0f;
  const IntPart power = (__builtin_convertvector(n, IntPart) + 127) << 23;
  const Part result = p * reinterpret_cast<Part>(power);
  return tiny ? Part{} : result;
}

template <int N>
struct Number {
  static constexpr int value = N;
};

/// Elements whose products are summed before they join the sum of all: a tenth of the error of one
/// long sum where there are thousands.
constexpr std::int64_t kSummedTogether = 64;

/// Even and odd elements are summed apart: half as many roundings follow each other.
template <int Rows, class Key>
inline void scores_tile(const ScoresArgs& a, const float* q, const Key* keys, float* out,
                        Vec scale) {
  Vec all[Rows] = {};
  for (std::int64_t c = 0; c < a.head_dim;) {
    const std::int64_t left = a.head_dim - c;
    const std::int64_t end = c + (left < kSummedTogether ? left : kSummedTogether);
    Vec sums[Rows][2] = {};
    for (; c + 2 <= end; c += 2) {
      const Vec k0 = load(keys + c * kLanes);
      const Vec k1 = load(keys + (c + 1) * kLanes);
      for (int r = 0; r < Rows; ++r) {
        sums[r][0] = sums[r][0] + k0 * q[r * a.head_dim + c];
        sums[r][1] = sums[r][1] + k1 * q[r * a.head_dim + c + 1];
      }
    }
    if (c < end) {
      const Vec key = load(keys + c * kLanes);
      for (int r = 0; r < Rows; ++r) sums[r][0] = sums[r][0] + key * q[r * a.head_dim + c];
      ++c;
    }
    for (int r = 0; r < Rows; ++r) all[r] = all[r] + (sums[r][0] + sums[r][1]);
  }
  for (int r = 0; r < Rows; ++r) store(out + r * a.out_stride, all[r] * scale);
}

template <class Key>
inline void scores_of(const ScoresArgs& a, const Key* keys) {
  for (std::int64_t p = 0; p < a.panels; ++p) {
    const Key* panel = keys + p * a.panel_stride;
    Vec scale = splat(a.scale);
    if (a.code_scales != nullptr) scale = scale * load(a.code_scales + p * a.scale_stride);
    const auto tile = [&](auto rows, std::int64_t r) {
      scores_tile<rows.value>(a, a.queries + r * a.head_dim, panel,
                              a.out + r * a.out_stride + p * kLanes, scale);
    };
    std::int64_t r = 0;
    for (; r + kScoreRows <= a.rows; r += kScoreRows) tile(Number<kScoreRows>{}, r);
    switch (a.rows - r) {
      case 3: tile(Number<3>{}, r); break;
      case 2: tile(Number<2>{}, r); break;
      case 1: tile(Number<1>{}, r); break;
      default: break;
    }
  }
}

void scores(const ScoresArgs& a) noexcept {
  if (a.keys != nullptr) {
    scores_of(a, a.keys);
  } else {
    scores_of(a, a.codes);
  }
}

/// Four by four.
void panel(const PanelArgs& a) noexcept {
  using Four = float __attribute__((vector_size(16)));
  const auto load_four = [&](std::int64_t row, std::int64_t c) {
    Four four;
    __builtin_memcpy(&four, a.rows + row * a.stride + c, sizeof(four));
    return four;
  };
  std::int64_t c = 0;
  for (; c + 4 <= a.columns; c += 4) {
    for (std::int64_t i = 0; i < kLanes; i += 4) {
      const Four r0 = load_four(i, c);
      const Four r1 = load_four(i + 1, c);
      const Four r2 = load_four(i + 2, c);
      const Four r3 = load_four(i + 3, c);
      const Four low01 = __builtin_shufflevector(r0, r1, 0, 4, 1, 5);
      const Four low23 = __builtin_shufflevector(r2, r3, 0, 4, 1, 5);
      const Four high01 = __builtin_shufflevector(r0, r1, 2, 6, 3, 7);
      const Four high23 = __builtin_shufflevector(r2, r3, 2, 6, 3, 7);
      const Four columns[4] = {__builtin_shufflevector(low01, low23, 0, 1, 4, 5),
                               __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
                               __builtin_shufflevector(high01, high23, 0, 1, 4, 5),
                               __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
      for (int k = 0; k < 4; ++k) {
        __builtin_memcpy(a.panel + (c + k) * kLanes + i, &columns[k], sizeof(Four));
      }
    }
  }
  for (; c < a.columns; ++c) {
    for (std::int64_t i = 0; i < kLanes; ++i) a.panel[c * kLanes + i] = a.rows[i * a.stride + c];
  }
}

/// Sixteen sums of each output, then their sum. The outputs lie `apart` rows from each other.
template <int Outputs, class Weight>
inline void dot_tile(const DotArgs& a, const Weight* all, std::int64_t r, std::int64_t n,
                     std::int64_t apart) {
  const float* x = a.x + r * a.columns;
  const Weight* weights = all + n * a.columns;
  const std::int64_t step = apart * a.columns;
  Vec sums[Outputs] = {};
  std::int64_t c = 0;
  for (; c + kLanes <= a.columns; c += kLanes) {
    const Vec part = load(x + c);
    for (int i = 0; i < Outputs; ++i) sums[i] = sums[i] + load(weights + i * step + c) * part;
  }
  if (c < a.columns) {
    const Vec part = load_part(x + c, a.columns - c);
    for (int i = 0; i < Outputs; ++i) {
      sums[i] = sums[i] + load_part(weights + i * step + c, a.columns - c) * part;
    }
  }
  for (int i = 0; i < Outputs; ++i) a.y[r * a.y_stride + n + i * apart] = sum(sums[i]);
}

/// Outputs far from each other at the same time: memory is read faster in several streams.
template <class Weight>
inline void dot_of(const DotArgs& a, const Weight* weights) {
  const std::int64_t apart = a.outputs / kDotOutputs;
  for (std::int64_t n = 0; n < apart; ++n) {
    for (std::int64_t r = 0; r < a.rows; ++r) dot_tile<kDotOutputs>(a, weights, r, n, apart);
  }
  for (std::int64_t n = apart * kDotOutputs; n < a.outputs; ++n) {
    for (std::int64_t r = 0; r < a.rows; ++r) dot_tile<1>(a, weights, r, n, 0);
  }
}

void dot(const DotArgs& a) noexcept {
  if (a.weights != nullptr) {
    dot_of(a, a.weights);
  } else {
    dot_of(a, a.halves);
  }
}

void softmax(const SoftmaxArgs& a) noexcept {
  const float nothing = -__builtin_inff();
  for (std::int64_t i = 0; i < a.begin; ++i) a.row[i] = nothing;
  for (std::int64_t i = a.end; i < a.width; ++i) a.row[i] = nothing;
  Vec most = load(a.row);
  for (std::int64_t i = kLanes; i < a.width; i += kLanes) {
    most = larger(load(a.row + i), most);
  }
  const float peak = largest(most);
  Vec total = {};
  for (std::int64_t i = 0; i < a.width; i += kLanes) {
    const Vec x = load(a.row + i) - peak;
    const Vec e = each([&](int part) { return exp(x.p[part]); });
    store(a.row + i, e);
    total = total + e;
  }
  const float by = 1.0f / sum(total);
  for (std::int64_t i = 0; i < a.width; i += kLanes) store(a.row + i, load(a.row + i) * by);
}

/// Rows x Chunks vectors of sums; the last chunk may be a part of `rest` elements.
template <int Rows, int Chunks, class Value>
inline void mix_tile(const MixArgs& a, const float* weights, const Value* values, float* out,
                     std::int64_t rest) {
  Vec sums[Rows][Chunks] = {};
  for (std::int64_t t = 0; t < a.tokens; ++t) {
    const Value* row = values + t * a.value_stride;
    Vec v[Chunks];
    for (int c = 0; c + 1 < Chunks; ++c) v[c] = load(row + c * kLanes);
    v[Chunks - 1] = rest == kLanes ? load(row + (Chunks - 1) * kLanes)
                                   : load_part(row + (Chunks - 1) * kLanes, rest);
    for (int r = 0; r < Rows; ++r) {
      const float w = weights[r * a.weights_stride + t];
      for (int c = 0; c < Chunks; ++c) sums[r][c] = sums[r][c] + v[c] * w;
    }
  }
  for (int r = 0; r < Rows; ++r) {
    float* to = out + r * a.head_dim;
    for (int c = 0; c + 1 < Chunks; ++c) store(to + c * kLanes, sums[r][c]);
    store_part(to + (Chunks - 1) * kLanes, sums[r][Chunks - 1], rest);
  }
}

template <int Rows, class Value>
inline void mix_rows(const MixArgs& a, std::int64_t row, const Value* values) {
  const float* weights = a.weights + row * a.weights_stride;
  float* out = a.out + row * a.head_dim;
  std::int64_t c = 0;
  for (; c + kChunks * kLanes <= a.head_dim; c += kChunks * kLanes) {
    mix_tile<Rows, kChunks>(a, weights, values + c, out + c, kLanes);
  }
  for (; c < a.head_dim; c += kLanes) {
    const std::int64_t left = a.head_dim - c;
    mix_tile<Rows, 1>(a, weights, values + c, out + c, left < kLanes ? left : kLanes);
  }
}

template <class Value>
inline void mix_of(const MixArgs& a, const Value* values) {
  std::int64_t r = 0;
  for (; r + kRows <= a.rows; r += kRows) mix_rows<kRows>(a, r, values);
  switch (a.rows - r) {  // below kRows: values are read once for all that are left
    case 3: mix_rows < kRows<3 ? 1 : 3>(a, r, values); break;
    case 2: mix_rows < kRows<2 ? 1 : 2>(a, r, values); break;
    case 1: mix_rows<1>(a, r, values); break;
    default: break;
  }
}

void mix(const MixArgs& a) noexcept {
  if (a.values != nullptr) {
    mix_of(a, a.values);
  } else {
    mix_of(a, a.codes);
  }
}

inline Vec gated(Vec x, const GateArgs& a) {
  return each([&](int i) {
    const Part v = x.p[i];
    const Part u = a.cubic == 0.0f ? v : v + a.cubic * (v * v * v);
    return v / (1.0f + exp(-(a.factor * u)));
  });
}

void gate(const GateArgs& a) noexcept {
  std::int64_t i = 0;
  for (; i + kLanes <= a.count; i += kLanes) {
    Vec y = gated(load(a.gate + i), a);
    if (a.up != nullptr) y = y * load(a.up + i);
    store(a.out + i, y);
  }
  if (i == a.count) return;
  Vec y = gated(load_part(a.gate + i, a.count - i), a);
  if (a.up != nullptr) y = y * load_part(a.up + i, a.count - i);
  store_part(a.out + i, y, a.count - i);
}

}  // namespace
}  // namespace kvant::models
