#pragma once

// quantize_rows: row absmax, outlier columns and int8 codes. The row is read from memory once; the
// second pass finds it in a cache.
//
// The scan compares magnitudes as integers: for the bits of |x| the order of integers is that of
// floats, with NaN above everything, so that one unsigned maximum tells whether a row has anything
// out of the ordinary. Only such rows are looked at more closely. That holds for the 16 bits of
// fp16 and bf16 too, which are therefore scanned without widening them.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// Loads count (or all) lanes of x as float, through fp16 where bitsandbytes does that, with the
/// columns of known outlier features zeroed.
template <class S, class X, bool kFp16First, bool kMasked>
inline typename S::F load_activation(const QuantizeRowsArgs& q, const typename X::type* x,
                                     std::int64_t c, std::int64_t count) noexcept {
  typename S::F value = load_floats<S, X>(x + c, count);
  if constexpr (kFp16First) value = S::round_f16(value);
  if constexpr (kMasked) {
    if (count >= S::kLanes) {
      value = S::bit_and(value, S::load_i16(q.keep_mask + c));
    } else {
      const PaddedTail<S, std::int16_t> tail(q.keep_mask + c, count);
      value = S::bit_and(value, S::load_i16(tail.values));
    }
  }
  return value;
}

/// Memory is asked for the rows to come, about 16 KiB ahead, while this one is in the caches: for
/// floats half of a row during the scan and half during the quantization, so that it is busy in
/// both; for 16 bits, whose scan is over at once, all during the quantization. With 64 bytes a load
/// that is over too soon as well, and more lines are asked for than the first level takes: half and
/// half, into the second (bf16 0.58 of the streaming read before, 0.88 then; floats 0.73, 0.86).
/// (An address, not a pointer: behind the last row there may be nothing, and a prefetch does not
/// mind.)
template <class S, class X>
struct RowsAhead {
  static constexpr std::int64_t kBytesAhead = 16 << 10;
  static constexpr std::int64_t kElement = sizeof(typename X::type);
  static constexpr bool kWide = S::kLanes >= 16;
  static constexpr bool kInScan = kElement == 4 || kWide;
  static constexpr std::int64_t kParts = kInScan ? 2 : 1;

  std::uintptr_t data;       ///< what belongs to the row
  std::uintptr_t row_bytes;  ///< from row to row
  std::uintptr_t half;       ///< what the scan has asked for: bytes

  explicit RowsAhead(const QuantizeRowsArgs& q) noexcept {
    const std::int64_t cols_bytes = q.x.cols * kElement;
    const std::int64_t rows = cols_bytes < kBytesAhead ? kBytesAhead / (cols_bytes + 1) + 1 : 1;
    row_bytes = static_cast<std::uintptr_t>(q.x.stride * kElement);
    data =
        reinterpret_cast<std::uintptr_t>(q.x.data) + static_cast<std::uintptr_t>(rows) * row_bytes;
    half = kInScan ? static_cast<std::uintptr_t>(cols_bytes / 2) : 0;
  }
  [[nodiscard]] RowsAhead of_row(std::int64_t r) const noexcept {
    RowsAhead other = *this;
    other.data += static_cast<std::uintptr_t>(r) * row_bytes;
    return other;
  }
  /// To be called while columns [c, c + kColumns) are scanned, or quantized.
  template <int kColumns>
  void in_scan(std::int64_t c) const noexcept {
    if constexpr (kInScan) fetch<kColumns>(data, c);
  }
  template <int kColumns>
  void in_quantization(std::int64_t c) const noexcept {
    fetch<kColumns>(data + half, c);
  }

 private:
  template <int kColumns>
  static void fetch(std::uintptr_t from, std::int64_t c) noexcept {
    KVANT_UNROLL
    for (std::int64_t line = 0; line < kColumns * kElement / kParts; line += 64) {
      __builtin_prefetch(reinterpret_cast<const void*>(
                             from + static_cast<std::uintptr_t>(c * kElement / kParts + line)),
                         0, kWide ? 2 : 3);
    }
  }
};

struct RowScan {
  float absmax = 0.0f;
  bool nan = false;
  bool outlier = false;
};

/// Vector by vector with a look at every outlier: rows with NaN, short rows, and where outliers are
/// not wanted.
template <class S, class X, bool kFp16First, bool kMasked>
[[gnu::noinline]] RowScan scan_carefully(const QuantizeRowsArgs& q,
                                         const typename X::type* x) noexcept {
  RowScan scan;
  const typename S::F threshold = S::set1(q.threshold);
  typename S::F largest = S::set1(0.0f);
  for (std::int64_t c = 0; c < q.x.cols; c += S::kLanes) {
    const std::int64_t count = q.x.cols - c < S::kLanes ? q.x.cols - c : S::kLanes;
    const typename S::F value = S::abs(load_activation<S, X, kFp16First, kMasked>(q, x, c, count));
    const typename S::M nan = S::is_nan(value);
    const typename S::M outlier = S::greater_equal(value, threshold);
    scan.nan = scan.nan || S::any(nan);
    for (std::uint32_t bits = S::bits(outlier); bits != 0; bits &= bits - 1) {
      const int i = __builtin_ctz(bits);
      if (i >= count) break;  // zeros behind the end, where the threshold is 0
      scan.outlier = true;
      if (q.outlier_columns != nullptr) q.outlier_columns[c + i] = 1;
    }
    largest = S::max(largest, S::zero_where(S::mask_or(nan, outlier), value));
  }
  scan.absmax = S::horizontal_max(largest);
  return scan;
}

/// 2 * S::kLanes columns of fp16 or bf16 as they are, those of known outlier features zeroed.
template <class S, bool kMasked>
inline typename S::I load_words(const QuantizeRowsArgs& q, const std::uint16_t* x,
                                std::int64_t c) noexcept {
  typename S::I words = S::load_i32(reinterpret_cast<const std::int32_t*>(x + c));
  if constexpr (kMasked) {
    words = S::and_i(words, S::load_i32(reinterpret_cast<const std::int32_t*>(q.keep_mask + c)));
  }
  return words;
}

/// How a scan sees magnitudes: as floats of 32 bits, ...
template <class S, class X, bool kFp16First, bool kMasked, bool kWords>
struct Magnitudes {
  using I = typename S::I;
  static constexpr std::int64_t kColumns = S::kLanes;  ///< of one vector
  std::uint32_t limit;

  explicit Magnitudes(float threshold) noexcept
      : limit(__builtin_bit_cast(std::uint32_t, threshold)) {}
  static I at(const QuantizeRowsArgs& q, const typename X::type* x, std::int64_t c) noexcept {
    return S::abs_bits(load_activation<S, X, kFp16First, kMasked>(q, x, c, S::kLanes));
  }
  static I larger(I a, I b) noexcept { return S::max_u32(a, b); }
  [[nodiscard]] bool any_at_limit(I a) const noexcept { return S::any_at_least_u32(a, limit); }
  static bool any_nan(I a) noexcept { return S::any_at_least_u32(a, 0x7F800001u); }
  void mark(I a, std::uint8_t* flags) const noexcept { S::mark_at_least_u32(a, limit, flags); }
  [[nodiscard]] I below_limit(I a) const noexcept { return S::keep_below_u32(a, limit); }
  static float absmax(I largest) noexcept {
    alignas(64) std::int32_t lanes[S::kLanes];
    S::store_i32(lanes, largest);
    return S::horizontal_max(S::load_f32(reinterpret_cast<const float*>(lanes)));
  }
};

/// ... or as the 16 bits of fp16 and bf16, two to a lane.
template <class S, class X, bool kFp16First, bool kMasked>
struct Magnitudes<S, X, kFp16First, kMasked, true> {
  using I = typename S::I;
  static constexpr std::int64_t kColumns = 2 * S::kLanes;
  std::uint16_t limit;

  explicit Magnitudes(float threshold) noexcept : limit(smallest_at_or_above(threshold)) {}
  static I at(const QuantizeRowsArgs& q, const typename X::type* x, std::int64_t c) noexcept {
    return S::and_i(load_words<S, kMasked>(q, x, c), S::set1_i(0x7FFF7FFF));
  }
  static I larger(I a, I b) noexcept { return S::max_u16(a, b); }
  [[nodiscard]] bool any_at_limit(I a) const noexcept { return S::any_at_least_u16(a, limit); }
  static bool any_nan(I a) noexcept {
    return S::any_at_least_u16(a, X::kIsBFloat ? 0x7F81 : 0x7C01);
  }
  void mark(I a, std::uint8_t* flags) const noexcept { S::mark_at_least_u16(a, limit, flags); }
  [[nodiscard]] I below_limit(I a) const noexcept { return S::keep_below_u16(a, limit); }
  static float absmax(I largest) noexcept {
    alignas(64) std::uint16_t words[kColumns];
    S::store_i32(reinterpret_cast<std::int32_t*>(words), largest);
    return S::horizontal_max(
        S::max(X::template load<S>(words), X::template load<S>(words + S::kLanes)));
  }

 private:
  static std::uint16_t smallest_at_or_above(float threshold) noexcept {
    if constexpr (X::kIsBFloat) {
      const auto bits = __builtin_bit_cast(std::uint32_t, threshold);
      return static_cast<std::uint16_t>((bits + 0xFFFFu) >> 16);
    } else {
      alignas(64) std::uint16_t words[S::kLanes];
      alignas(64) float rounded[S::kLanes];
      S::store_f16(words, S::set1(threshold));
      S::store_f32(rounded, S::load_f16(words));
      return static_cast<std::uint16_t>(words[0] + (rounded[0] < threshold ? 1 : 0));
    }
  }
};

/// Columns looked at in one step; a shorter row goes through scan_carefully.
inline constexpr std::int64_t kStretch = 128;

/// Where a step at `at` begins: the last one is moved back to end with the row, since looking at an
/// element twice costs less than a path for remainders. Needs step <= cols.
inline std::int64_t last_overlaps(std::int64_t at, std::int64_t step, std::int64_t cols) noexcept {
  return at + step <= cols ? at : cols - step;
}

/// One maximum for the row. Where it is beyond the threshold (in a model with outlier features that
/// is every row or none) the row, in a cache now, is gone through again, without a
/// branch for any single outlier: those would be mispredicted.
template <class S, class X, bool kFp16First, bool kMasked, class M>
inline RowScan scan_row(const QuantizeRowsArgs& q, const typename X::type* x, const M& magnitudes,
                        const RowsAhead<S, X>& ahead) noexcept {
  const std::int64_t cols = q.x.cols;
  if (cols < kStretch) return scan_carefully<S, X, kFp16First, kMasked>(q, x);
  typename S::I largest = S::zero_i();
  for (std::int64_t at = 0; at < cols; at += kStretch) {
    const std::int64_t c = last_overlaps(at, kStretch, cols);
    ahead.template in_scan<kStretch>(c);
    typename S::I here = M::at(q, x, c);  // its own: one long chain of maxima would wait for itself
    KVANT_UNROLL
    for (std::int64_t v = M::kColumns; v < kStretch; v += M::kColumns) {
      here = M::larger(here, M::at(q, x, c + v));
    }
    largest = M::larger(largest, here);
  }
  const bool outlier = magnitudes.any_at_limit(largest);
  if (outlier) {
    if (M::any_nan(largest) || q.outlier_columns == nullptr) {
      return scan_carefully<S, X, kFp16First, kMasked>(q, x);
    }
    largest = S::zero_i();
    for (std::int64_t at = 0; at < cols; at += M::kColumns) {
      const std::int64_t c = last_overlaps(at, M::kColumns, cols);
      const typename S::I here = M::at(q, x, c);
      magnitudes.mark(here, q.outlier_columns + c);
      largest = M::larger(largest, magnitudes.below_limit(here));
    }
  }
  return {M::absmax(largest), false, outlier};
}

template <class S>
inline void store_codes(void* codes, ActivationFormat format, std::int64_t c,
                        typename S::I q) noexcept {
  if (format == ActivationFormat::u8_offset) {
    S::store_i8_offset(static_cast<std::uint8_t*>(codes) + c, q);
  } else {
    S::store_i8(static_cast<std::int8_t*>(codes) + c, q);
  }
}

/// Columns [c, c + 4 * S::kLanes) as four vectors; of bf16 the even and the odd ones apart, as they
/// lie in a register's lanes, since moving each to a lane of its own costs more than all the rest.
template <class S, class X, bool kFp16First, bool kMasked>
inline void load_step(const QuantizeRowsArgs& q, const typename X::type* x, std::int64_t c,
                      typename S::F (&values)[4]) noexcept {
  KVANT_UNROLL
  for (int v = 0; v < 4; ++v) {
    if constexpr (X::kIsBFloat) {
      const std::int64_t at = c + v / 2 * 2 * S::kLanes;
      const typename S::I words = load_words<S, kMasked>(q, x, at);
      values[v] = v % 2 == 0 ? S::low_bf16(words) : S::high_bf16(words);
      if constexpr (kFp16First) values[v] = S::round_f16(values[v]);
    } else {
      values[v] = load_activation<S, X, kFp16First, kMasked>(q, x, c + v * S::kLanes, S::kLanes);
    }
  }
}

/// The codes of load_step's columns as bytes, in the order of the columns.
template <class S, class X>
inline typename S::I step_bytes(const typename S::I (&q)[4]) noexcept {
  if constexpr (X::kIsBFloat) {
    return S::narrow_words(S::join_words(q[0], q[1]), S::join_words(q[2], q[3]));
  } else {
    return S::narrow_lanes(q[0], q[1], q[2], q[3]);
  }
}

/// What the codes of a row need: nothing where no element is an outlier and the scale is the row's
/// own absmax; the outliers' codes zero; or the values clamped to a given absmax as well.
enum class RowKind { plain, outliers, given_absmax };

template <class S, class X, bool kFp16First, bool kMasked, RowKind kKind>
inline void quantize_row(const QuantizeRowsArgs& q, const typename X::type* x, float inverse_scale,
                         void* codes, const RowsAhead<S, X>& ahead) noexcept {
  const typename S::F threshold = S::set1(q.threshold);
  const typename S::F inverse = S::set1(inverse_scale);
  const auto code = [&](typename S::F value) {
    if constexpr (kKind != RowKind::plain) {
      value = S::zero_where(S::greater_equal(S::abs(value), threshold), value);
    }
    value = S::mul(value, inverse);
    if constexpr (kKind == RowKind::given_absmax) {
      value = S::min(S::max(value, S::set1(-127.0f)), S::set1(127.0f));
    }
    return S::to_i32(value);
  };
  const auto code_at = [&](std::int64_t c, std::int64_t count) {
    return code(load_activation<S, X, kFp16First, kMasked>(q, x, c, count));
  };
  constexpr std::int64_t kStep = 4 * S::kLanes;
  // + 128 for all bytes, or nothing.
  const typename S::I offset = S::set1_i(
      q.format == ActivationFormat::u8_offset ? static_cast<std::int32_t>(0x80808080u) : 0);
  const std::int64_t cols = q.x.cols;
  std::int64_t c = 0;
  for (; c + kStep <= cols; c += kStep) {
    ahead.template in_quantization<kStep>(c);
    typename S::F values[4];
    load_step<S, X, kFp16First, kMasked>(q, x, c, values);
    const typename S::I step[4] = {code(values[0]), code(values[1]), code(values[2]),
                                   code(values[3])};
    S::store_i32(reinterpret_cast<std::int32_t*>(static_cast<unsigned char*>(codes) + c),
                 S::xor_i(step_bytes<S, X>(step), offset));
  }
  for (; c + S::kLanes <= q.x.cols; c += S::kLanes) {
    store_codes<S>(codes, q.format, c, code_at(c, S::kLanes));
  }
  if (c == q.k_padded) return;
  const std::int64_t left = q.x.cols - c;
  const bool overlap = q.x.cols >= S::kLanes;  // the last codes are written again with the rest
  const typename S::I last = overlap ? code_at(q.x.cols - S::kLanes, S::kLanes) : code_at(c, left);
  for (std::int64_t p = c; p < q.k_padded; p += S::kLanes) {
    store_codes<S>(codes, q.format, p, S::zero_i());
  }
  if (left > 0) store_codes<S>(codes, q.format, overlap ? q.x.cols - S::kLanes : c, last);
}

template <class S, class X, bool kFp16First, bool kMasked>
inline void quantize_rows_of(const QuantizeRowsArgs& q) noexcept {
  // bf16 values go through fp16 for bitsandbytes: their own bits do not tell what becomes of them.
  constexpr bool kWords = sizeof(typename X::type) == 2 && !(kFp16First && X::kIsBFloat);
  const Magnitudes<S, X, kFp16First, kMasked, kWords> magnitudes(q.threshold);
  const RowsAhead<S, X> ahead(q);
  const auto row = [&](std::int64_t r) {
    return static_cast<const typename X::type*>(q.x.data) + r * q.x.stride;
  };
  struct Scale {
    float absmax;
    float inverse;
    bool outlier;
  };
  const auto scan = [&](std::int64_t r) -> Scale {
    const RowScan found =
        scan_row<S, X, kFp16First, kMasked>(q, row(r), magnitudes, ahead.of_row(r));
    float absmax = q.given_absmax != nullptr ? *q.given_absmax : found.absmax;
    if (absmax > 0.0f && absmax < kSmallestAbsmax) absmax = kSmallestAbsmax;
    const bool poisoned = found.nan || (found.outlier && q.outlier_columns == nullptr);
    if (poisoned) absmax = __builtin_nanf("");
    q.absmax[r] = absmax;
    if (q.row_scale != nullptr) q.row_scale[r] = kFp16First ? absmax : absmax / 127.0f;
    return {absmax, kFp16First ? 1.0f / absmax * 127.0f : 127.0f / absmax, found.outlier};
  };
  // Short rows are scanned one row early, so that the processor has something to do until a row's
  // maximum and quotient are known: a third faster at 768 columns of bf16. Two long rows would not
  // fit the first-level cache, and floats wait for memory anyway.
  const std::int64_t early = sizeof(typename X::type) == 2 && q.x.cols <= 2048 ? 1 : 0;
  Scale scanned{};
  for (std::int64_t i = 0; i < q.x.rows + early; ++i) {
    Scale scale = scanned;
    if (i < q.x.rows) scanned = scan(i);
    if (early == 0) scale = scanned;
    const std::int64_t r = i - early;
    if (r < 0 || q.codes == nullptr) continue;
    void* codes = static_cast<unsigned char*>(q.codes) + r * q.code_stride;
    if (!(scale.absmax > 0.0f && scale.absmax < __builtin_inff())) {  // zeros, or a NaN's row
      for (std::int64_t c = 0; c < q.k_padded; c += S::kLanes) {
        store_codes<S>(codes, q.format, c, S::zero_i());
      }
      continue;
    }
    const auto quantize = [&]<RowKind kKind>() {
      quantize_row<S, X, kFp16First, kMasked, kKind>(q, row(r), scale.inverse, codes,
                                                     ahead.of_row(r));
    };
    if (q.given_absmax != nullptr) {
      quantize.template operator()<RowKind::given_absmax>();
    } else if (scale.outlier) {
      quantize.template operator()<RowKind::outliers>();
    } else {
      quantize.template operator()<RowKind::plain>();
    }
  }
}

/// Needs k_padded to be a multiple of S::kLanes.
template <class S>
void quantize_rows(const QuantizeRowsArgs& q) noexcept {
  with_float_type(q.x.dtype, [&](auto type) {
    using X = decltype(type);
    if (q.bitsandbytes) {
      q.keep_mask != nullptr ? quantize_rows_of<S, X, true, true>(q)
                             : quantize_rows_of<S, X, true, false>(q);
    } else {
      q.keep_mask != nullptr ? quantize_rows_of<S, X, false, true>(q)
                             : quantize_rows_of<S, X, false, false>(q);
    }
  });
}

}  // namespace
}  // namespace kvant
