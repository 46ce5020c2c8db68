#pragma once

// Sums as mma and wgmma leave them in registers, through the epilogue to y: of tiles of 16 rows by
// 8 columns a thread has rows lane / 4 and that + 8, columns lane % 4 * 2 and the next.

#include "cuda/epilogue.hpp"

namespace kvant {
namespace {

/// found += x w of features [0, count) in shared memory.
/// @param x  [count][x_stride] at the thread's first row  @param w  [count][w_stride], first column
template <int kTiles>
KVANT_DEVICE void add_features(float (&found)[kTiles][4], const float* x, int x_stride,
                               const float* w, int w_stride, int count) {
  for (int f = 0; f < count; ++f, x += x_stride, w += w_stride) {
    const float rows[2] = {x[0], x[8]};
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        found[t][i] = device::fused_multiply_add(rows[i / 2], w[t * 8 + i % 2], found[t][i]);
      }
    }
  }
}

/// The four lanes of a row exchange words: lane q comes with word q of four tiles of 8 columns and
/// leaves with the four words of tile q, which lie together in y.
KVANT_DEVICE void transpose_words(std::uint32_t (&w)[4]) {
  const bool odd = (threadIdx.x & 1) != 0, upper = (threadIdx.x & 2) != 0;
  std::uint32_t pairs[2][2];
#pragma unroll
  for (int p = 0; p < 2; ++p) {
    const std::uint32_t mine = odd ? w[2 * p + 1] : w[2 * p];
    const std::uint32_t other = device::shuffle_xor(odd ? w[2 * p] : w[2 * p + 1], 1);
    pairs[p][0] = odd ? other : mine;
    pairs[p][1] = odd ? mine : other;
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t mine = upper ? pairs[1][i] : pairs[0][i];
    const std::uint32_t other = device::shuffle_xor(upper ? pairs[0][i] : pairs[1][i], 2);
    w[i] = upper ? other : mine;
    w[2 + i] = upper ? mine : other;
  }
}

struct alignas(8) Words2 {
  std::uint32_t w[2];
};
struct alignas(16) AlignedWords4 {
  std::uint32_t w[4];
};

/// Two neighbours as the 32 bits of a type of 16.
KVANT_DEVICE std::uint32_t narrow_pair(DType dtype, float low, float high) {
  const bool half = dtype == DType::float16;
  const std::uint32_t a = half ? device::float_to_half(low) : device::float_to_bfloat(low);
  const std::uint32_t b = half ? device::float_to_half(high) : device::float_to_bfloat(high);
  return a | b << 16;
}

/// Rows m and m + 8 of kTiles tiles; n is the thread's first column.
/// @param y_vector  what rows of y are aligned to, bytes
template <int kTiles>
KVANT_DEVICE void store_fragments(const GemmArgs& g, int y_vector, std::int64_t m, std::int64_t n,
                                  const std::int32_t (&acc)[kTiles][4],
                                  const float (&found)[kTiles][4], bool has_outliers) {
  static_assert(kTiles % 4 == 0);
  const Epilogue& e = g.epilogue;
  // The last column of the lanes' tiles: the same for all four lanes of a row.
  const bool whole = n / 8 * 8 + kTiles * 8 <= g.n;
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const std::int64_t row = m + half * 8;
    const bool inside = row < g.m;
    if (e.y_dtype == DType::int32) {
      if (!inside) continue;
      auto* const y = static_cast<std::int32_t*>(e.y) + row * e.y_stride;
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (n + t * 8 + i < g.n) y[n + t * 8 + i] = acc[t][half * 2 + i];
        }
      }
      continue;
    }
    const float row_scale = inside ? e.row_scale[row] : 0.0f;
    float values[kTiles][2];
#pragma unroll
    for (int t = 0; t < kTiles; ++t) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const std::int64_t column = n + t * 8 + i;
        const bool there = column < g.n;
        const float bias = there && e.bias != nullptr ? e.bias[column] : 0.0f;
        values[t][i] =
            finished(e, acc[t][half * 2 + i], row_scale, there ? e.col_scale[column] : 0.0f, bias,
                     has_outliers, found[t][half * 2 + i]);
      }
    }
    const std::int64_t at = row * e.y_stride + n;
    if (e.y_dtype == DType::float32 && whole && y_vector >= 8) {
      if (!inside) continue;
      auto* const y = static_cast<float*>(e.y) + at;
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
        *reinterpret_cast<Words2*>(y + t * 8) = {device::float_bits(values[t][0]),
                                                 device::float_bits(values[t][1])};
      }
    } else if (e.y_dtype != DType::float32 && whole && y_vector >= 16) {
      // 16 bytes a lane: its tile of each four.
      const int lane = static_cast<int>(threadIdx.x) % 4;
      auto* const y = static_cast<std::uint16_t*>(e.y) + at - lane * 2 + lane * 8;
#pragma unroll
      for (int t = 0; t < kTiles; t += 4) {
        std::uint32_t words[4];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          words[i] = narrow_pair(e.y_dtype, values[t + i][0], values[t + i][1]);
        }
        transpose_words(words);
        if (inside) {
          *reinterpret_cast<AlignedWords4*>(y + t * 8) = {{words[0], words[1], words[2], words[3]}};
        }
      }
    } else if (inside) {
#pragma unroll
      for (int t = 0; t < kTiles; ++t) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          if (n + t * 8 + i < g.n) store_float(e.y, e.y_dtype, at + t * 8 + i, values[t][i]);
        }
      }
    }
  }
}

}  // namespace
}  // namespace kvant
