#pragma once

// Rows of float to int8 by their own absmax, outliers set aside (QuantizeRowsArgs has the rules):
// a block a row, which is read from memory once and stays in registers between the scan and the
// codes. Rows longer than kHeld * 8 * kQuantizeThreads read the rest again.

#include "cuda/block_reduce.hpp"
#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

inline constexpr int kQuantizeThreads = 256;
inline constexpr int kPiece = 8;  ///< columns of a thread's step
inline constexpr int kHeldPieces = 4;
/// A row's maximum that says: it has a NaN, or an outlier where none is wanted.
inline constexpr std::uint32_t kPoisoned = 0xFFFFFFFFu;

struct alignas(8) CodeWords {
  std::uint32_t w[2];
};

/// Where 16 bytes may be moved at a time.
struct QuantizeAlignment {
  bool x, codes;
};

template <DType kType>
KVANT_DEVICE void load_piece(const QuantizeRowsArgs& q, std::int64_t at, std::int64_t c, bool wide,
                             float (&values)[kPiece]) {
  constexpr int kBytes = kType == DType::float32 ? 4 : 2;
  const auto* const x = static_cast<const unsigned char*>(q.x.data) + (at + c) * kBytes;
  if (wide && c + kPiece <= q.x.cols) {
#pragma unroll
    for (int v = 0; v < kBytes / 2; ++v) {
      const device::Words4 words = *reinterpret_cast<const device::Words4*>(x + v * 16);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kType == DType::float32) {
          values[v * 4 + i] = device::bits_float(words.w[i]);
        } else {
          const auto low = static_cast<std::uint16_t>(words.w[i] & 0xFFFFu);
          const auto high = static_cast<std::uint16_t>(words.w[i] >> 16);
          constexpr bool kHalf = kType == DType::float16;
          values[2 * i] = kHalf ? device::half_to_float(low) : device::bfloat_to_float(low);
          values[2 * i + 1] = kHalf ? device::half_to_float(high) : device::bfloat_to_float(high);
        }
      }
    }
  } else {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      values[i] = c + i < q.x.cols ? load_float(q.x.data, kType, at + c + i) : 0.0f;
    }
  }
  if (q.bitsandbytes) {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) values[i] = rounded_to(DType::float16, values[i]);
  }
  if (q.keep_mask != nullptr) {
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      if (c + i < q.x.cols && q.keep_mask[c + i] == 0) values[i] = 0.0f;
    }
  }
}

/// A piece with something out of the ordinary, or a row's end in it.
KVANT_DEVICE std::uint32_t scan_carefully(const QuantizeRowsArgs& q, std::int64_t c,
                                          const float (&values)[kPiece]) {
  std::uint32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    if (c + i >= q.x.cols) continue;
    const float magnitude = absolute(values[i]);
    std::uint32_t here = device::float_bits(magnitude);
    if (!(magnitude < q.threshold)) {
      const bool outlier = !is_nan(magnitude) && q.outlier_columns != nullptr;
      if (outlier) q.outlier_columns[c + i] = 1;  // whoever writes it writes 1
      here = outlier ? 0u : kPoisoned;
    }
    largest = here > largest ? here : largest;
  }
  return largest;
}

/// The maximum of what counts, as bits: for magnitudes the order of floats is that of integers,
/// with NaN above everything.
struct RowScan {
  std::uint32_t largest;
  bool plain;  ///< nothing in the thread's pieces has to be looked at again

  KVANT_DEVICE void add(const QuantizeRowsArgs& q, std::int64_t c, const float (&values)[kPiece]) {
    std::uint32_t here = 0;
#pragma unroll
    for (int i = 0; i < kPiece; ++i) {
      const std::uint32_t bits = device::float_bits(values[i]) & 0x7FFFFFFFu;
      here = bits > here ? bits : here;
    }
    if (here >= device::float_bits(q.threshold) || c + kPiece > q.x.cols) {
      plain = false;
      here = scan_carefully(q, c, values);
    }
    largest = here > largest ? here : largest;
  }
};

/// Codes where every element has one and none is clamped: adding 1.5 * 2^23 rounds to an integer,
/// half to even, and leaves it in the lowest byte.
KVANT_DEVICE void plain_codes(const float (&values)[kPiece], float inverse,
                              std::uint32_t (&words)[2]) {
  std::uint32_t codes[kPiece];
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    codes[i] = device::float_bits(device::add(device::multiply(values[i], inverse), 12582912.0f));
  }
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const std::uint32_t low = device::permute_bytes(codes[4 * i], codes[4 * i + 1], 0x40);
    const std::uint32_t high = device::permute_bytes(codes[4 * i + 2], codes[4 * i + 3], 0x40);
    words[i] = device::permute_bytes(low, high, 0x5410);
  }
}

KVANT_DEVICE void careful_codes(const QuantizeRowsArgs& q, std::int64_t c,
                                const float (&values)[kPiece], float inverse,
                                std::uint32_t (&words)[2]) {
  words[0] = words[1] = 0;
#pragma unroll
  for (int i = 0; i < kPiece; ++i) {
    std::uint32_t code = 0;
    if (c + i < q.x.cols && absolute(values[i]) < q.threshold && inverse > 0.0f) {
      float scaled = device::multiply(values[i], inverse);
      scaled = scaled > -127.0f ? scaled : -127.0f;
      scaled = scaled < 127.0f ? scaled : 127.0f;
      code = static_cast<std::uint32_t>(static_cast<int>(device::round_half_even(scaled)));
    }
    words[i / 4] |= (code & 0xFFu) << (i % 4 * 8);
  }
}

/// @param plain  the row's scale is its own, and no element of the piece is set aside
KVANT_DEVICE void store_piece(const QuantizeRowsArgs& q, std::int64_t row, std::int64_t c,
                              bool wide, const float (&values)[kPiece], float inverse, bool plain) {
  std::uint32_t words[2];
  if (plain) {
    plain_codes(values, inverse, words);
  } else {
    careful_codes(q, c, values, inverse, words);
  }
  const std::uint32_t offset = q.format == ActivationFormat::u8_offset ? 0x80808080u : 0u;
  words[0] ^= offset;
  words[1] ^= offset;
  auto* const codes = static_cast<unsigned char*>(q.codes) + row * q.code_stride + c;
  if (wide && c + kPiece <= q.k_padded) {
    reinterpret_cast<CodeWords*>(codes)[0] = {{words[0], words[1]}};
  } else {
    for (int i = 0; i < kPiece && c + i < q.k_padded; ++i) {
      codes[i] = static_cast<unsigned char>(words[i / 4] >> (i % 4 * 8));
    }
  }
}

// Blocks of a processor: four have 64 registers a thread, and Blackwell's code needs a few more.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
inline constexpr int kQuantizeBlocks = 3;
#else
inline constexpr int kQuantizeBlocks = 4;
#endif

template <DType kType>
KVANT_KERNEL(kQuantizeThreads, kQuantizeBlocks)
quantize_rows_kernel(KVANT_CONSTANT QuantizeRowsArgs q, KVANT_CONSTANT QuantizeAlignment wide) {
  constexpr std::int64_t kStep = std::int64_t{kQuantizeThreads} * kPiece;
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  const std::int64_t first = static_cast<std::int64_t>(threadIdx.x) * kPiece;
  for (std::int64_t row = blockIdx.x; row < q.x.rows; row += gridDim.x) {
    const std::int64_t at = row * q.x.stride;
    float held[kHeldPieces][kPiece];
    RowScan scan{0, true};
#pragma unroll
    for (int h = 0; h < kHeldPieces; ++h) {
      const std::int64_t c = first + h * kStep;
      if (c < q.x.cols) load_piece<kType>(q, at, c, wide.x, held[h]);
    }
#pragma unroll
    for (int h = 0; h < kHeldPieces; ++h) {
      const std::int64_t c = first + h * kStep;
      if (c < q.x.cols) scan.add(q, c, held[h]);
    }
    for (std::int64_t c = first + kHeldPieces * kStep; c < q.x.cols; c += kStep) {
      float values[kPiece];
      load_piece<kType>(q, at, c, wide.x, values);
      scan.add(q, c, values);
    }
    const std::uint32_t largest = block_reduce<kQuantizeThreads>(
        scan.largest, [](std::uint32_t a, std::uint32_t b) { return a > b ? a : b; });

    float absmax = device::bits_float(largest);
    if (q.given_absmax != nullptr) absmax = *q.given_absmax;
    if (absmax > 0.0f && absmax < kSmallestAbsmax) absmax = kSmallestAbsmax;
    if (largest == kPoisoned) absmax = device::bits_float(kQuietNaNBits);
    if (threadIdx.x == 0) {
      q.absmax[row] = absmax;
      if (q.row_scale != nullptr) {
        q.row_scale[row] = q.bitsandbytes ? absmax : device::divide(absmax, 127.0f);
      }
    }
    if (q.codes == nullptr) continue;
    float inverse = 0.0f;  // codes 0: a row of zeros, of a NaN, or of an infinite scale
    if (absmax > 0.0f && absmax < device::bits_float(kInfinityBits)) {
      inverse = q.bitsandbytes ? device::multiply(device::divide(1.0f, absmax), 127.0f)
                               : device::divide(127.0f, absmax);
    }
    const bool plain = scan.plain && inverse > 0.0f && q.given_absmax == nullptr;
#pragma unroll
    for (int h = 0; h < kHeldPieces; ++h) {
      const std::int64_t c = first + h * kStep;
      if (c < q.k_padded) {
        store_piece(q, row, c, wide.codes, held[h], inverse, plain && c < q.x.cols);
      }
    }
    for (std::int64_t c = first + kHeldPieces * kStep; c < q.k_padded; c += kStep) {
      float values[kPiece] = {};
      if (c < q.x.cols) load_piece<kType>(q, at, c, wide.x, values);
      store_piece(q, row, c, wide.codes, values, inverse, plain && c < q.x.cols);
    }
  }
}

inline bool aligned_16(const void* data, std::int64_t stride_bytes) noexcept {
  return (reinterpret_cast<std::uintptr_t>(data) | static_cast<std::uintptr_t>(stride_bytes)) %
             16 ==
         0;
}

inline void launch_quantize_rows(const QuantizeRowsArgs& q) {
  if (q.x.rows == 0) return;
  const QuantizeAlignment wide{
      aligned_16(q.x.data, q.x.stride * (q.x.dtype == DType::float32 ? 4 : 2)),
      aligned_16(q.codes, q.code_stride)};
  const device::Launch l{.grid = {blocks_for(q.x.rows, 1, 1 << 20), 1, 1},
                         .threads = kQuantizeThreads,
                         .shared_bytes = kQuantizeThreads / 32 * 4,
                         .queue = q.queue};
  switch (q.x.dtype) {
    case DType::float16: return device::launch(l, &quantize_rows_kernel<DType::float16>, q, wide);
    case DType::bfloat16: return device::launch(l, &quantize_rows_kernel<DType::bfloat16>, q, wide);
    default: return device::launch(l, &quantize_rows_kernel<DType::float32>, q, wide);
  }
}

}  // namespace
}  // namespace kvant
