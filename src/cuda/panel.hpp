#pragma once

// Sums through shared memory to y: kernels put a panel of them there, and each thread takes four
// neighbouring columns of some rows through the epilogue. So the code of the epilogue stands once
// in a kernel, in a loop. (Straight from the registers of an mma it would stand there once for each
// register: more than the instruction cache holds, and several times slower for that alone.)

#include "cuda/epilogue.hpp"

namespace kvant {
namespace {

struct alignas(16) Words {
  std::uint32_t w[4];
};
struct alignas(8) HalfWords {
  std::uint32_t w[2];
};
struct alignas(16) Floats {
  float v[4];
};

/// The cut of a panel of kRows x kColumns among kThreads.
template <int kThreads, int kRows, int kColumns>
struct PanelCut {
  static constexpr int kVectors = kColumns / 4;         ///< of a row
  static constexpr int kRowStep = kThreads / kVectors;  ///< between a thread's rows
  static constexpr int kThreadRows = kRows / kRowStep;  ///< of a thread
  static constexpr int kStride = kColumns + 8;          ///< words: no two rows in one bank
  static constexpr int kBytes = kRows * kStride * 4;
  static_assert(kThreads % kVectors == 0 && kRows % kRowStep == 0);
};

/// outliers += x w of features [0, count), whose values lie in shared memory.
/// @param x  [count][x_stride]  @param rows  the thread's rows of it
/// @param w  [count][w_stride], the thread's first column
template <int kRows>
KVANT_DEVICE void add_features(float (&outliers)[kRows][4], const float* x, int x_stride,
                               const int (&rows)[kRows], const float* w, int w_stride, int count) {
  for (int f = 0; f < count; ++f, x += x_stride, w += w_stride) {
    const Floats weights = *reinterpret_cast<const Floats*>(w);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const float activation = x[rows[r]];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        outliers[r][i] = device::fused_multiply_add(activation, weights.v[i], outliers[r][i]);
      }
    }
  }
}

/// Four sums from shared memory.
KVANT_DEVICE void load_four(const std::int32_t* from, std::int32_t (&sums)[4]) {
  const Words words = *reinterpret_cast<const Words*>(from);
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] = static_cast<std::int32_t>(words.w[i]);
}

KVANT_DEVICE void load_four(const float* from, float (&sums)[4]) {
  const Floats floats = *reinterpret_cast<const Floats*>(from);
#pragma unroll
  for (int i = 0; i < 4; ++i) sums[i] = floats.v[i];
}

/// Four values of a row of y from column n on, as their bits: what there is of them.
/// @param y_vector  what rows of y are aligned to, bytes
KVANT_DEVICE void store_four(void* y, DType dtype, std::int64_t at, int there, int y_vector,
                             const std::uint32_t (&bits)[4]) {
  if (dtype == DType::float32 || dtype == DType::int32) {
    auto* const to = static_cast<std::uint32_t*>(y) + at;
    if (there == 4 && y_vector >= 16) {
      *reinterpret_cast<Words*>(to) = {{bits[0], bits[1], bits[2], bits[3]}};
      return;
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i < there) to[i] = bits[i];
    }
    return;
  }
  auto* const to = static_cast<std::uint16_t*>(y) + at;
  std::uint32_t narrow[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float value = device::bits_float(bits[i]);
    narrow[i] =
        dtype == DType::float16 ? device::float_to_half(value) : device::float_to_bfloat(value);
  }
  if (there == 4 && y_vector >= 8) {
    *reinterpret_cast<HalfWords*>(to) = {
        {narrow[0] | narrow[1] << 16, narrow[2] | narrow[3] << 16}};
    return;
  }
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (i < there) to[i] = static_cast<std::uint16_t>(narrow[i]);
  }
}

/// What belongs to a thread's four columns.
struct FourColumns {
  float scale[4], bias[4];
  int there;  ///< how many of them there are

  /// @tparam Sum  float: the scales are in the sums
  template <class Sum = std::int32_t>
  KVANT_DEVICE static FourColumns load(const GemmArgs& g, std::int64_t n) {
    const std::int64_t left = g.range.n - n;
    FourColumns c{{}, {}, left < 4 ? static_cast<int>(left) : 4};
    if (g.epilogue.y_dtype == DType::int32) return c;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (i >= c.there) continue;
      if constexpr (std::is_same_v<Sum, std::int32_t>) c.scale[i] = g.epilogue.col_scale[n + i];
      if (g.epilogue.bias != nullptr) c.bias[i] = g.epilogue.bias[n + i];
    }
    return c;
  }
};

/// The scale of row m, where there is such a row and it is wanted.
KVANT_DEVICE float load_row_scale(const GemmArgs& g, std::int64_t m) {
  return m < g.range.m && g.epilogue.y_dtype != DType::int32 ? g.epilogue.row_scale[m] : 0.0f;
}

/// One row's four sums through the epilogue to y. (Rows and columns beyond y's end: nothing.)
template <class Sum>
KVANT_DEVICE void finish_four(const GemmLaunch& launch, std::int64_t m, std::int64_t n,
                              float row_scale, const FourColumns& c, const Sum (&sums)[4],
                              bool has_outliers, const float (&outliers)[4]) {
  const Epilogue& e = launch.args.epilogue;
  if (m >= launch.args.range.m || c.there <= 0) return;
  std::uint32_t bits[4];
  if (std::is_same_v<Sum, std::int32_t> && e.y_dtype == DType::int32) {
#pragma unroll
    for (int i = 0; i < 4; ++i) bits[i] = static_cast<std::uint32_t>(sums[i]);
  } else {
    float values[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) values[i] = scaled(e, sums[i], row_scale, c.scale[i]);
    if (e.bias_first) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (e.bias != nullptr) values[i] = device::add(values[i], c.bias[i]);
        if (has_outliers) {
          values[i] = device::add(rounded_to(e.y_dtype, values[i]), outliers[i]);
        }
      }
    } else {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if (has_outliers) values[i] = device::add(values[i], outliers[i]);
        if (e.bias != nullptr) values[i] = device::add(values[i], c.bias[i]);
      }
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) bits[i] = device::float_bits(values[i]);
  }
  store_four(e.y, e.y_dtype, m * e.y_stride + n, c.there, launch.y_vector, bits);
}

}  // namespace
}  // namespace kvant
