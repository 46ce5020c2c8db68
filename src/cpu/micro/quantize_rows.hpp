#pragma once

// quantize_rows: row absmax, outlier columns and int8 codes. The row is read from memory once; the
// second pass finds it in the first-level cache.
//
// The scan compares magnitudes as integers: for the bits of |x| the order of integers is that of
// floats, with NaN above everything, so that one unsigned maximum per vector tells whether a stretch
// of columns has anything out of the ordinary. Only such stretches are looked at element by element.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// Loads count (or all) lanes of x as float, through fp16 where bitsandbytes does that, with the
/// columns of known outlier features zeroed.
template <class S, class X, bool kParity, bool kMasked>
inline typename S::F load_activation(const QuantizeRowsArgs& q, const typename X::type* x,
                                     std::int64_t c, std::int64_t count) noexcept {
  typename S::F value = load_floats<S, X>(x + c, count);
  if constexpr (kParity) value = S::round_f16(value);
  if constexpr (kMasked) {
    if (count >= S::kLanes) {
      value = S::bit_and(value,
                         S::load_i32(reinterpret_cast<const std::int32_t*>(q.keep_mask + c)));
    } else {
      const PaddedTail<S, std::uint32_t> tail(q.keep_mask + c, count);
      value = S::bit_and(value, S::load_i32(reinterpret_cast<const std::int32_t*>(tail.values)));
    }
  }
  return value;
}

struct RowScan {
  float absmax = 0.0f;
  bool nan = false;
  bool outlier = false;
};

/// Columns [c, end) one by one: outliers are marked and do not count.
template <class S, class X, bool kParity, bool kMasked>
[[gnu::noinline]] void scan_outliers(const QuantizeRowsArgs& q, const typename X::type* x,
                                     std::int64_t c, std::int64_t end, RowScan& scan) noexcept {
  for (; c < end; c += S::kLanes) {
    const std::int64_t count = end - c < S::kLanes ? end - c : S::kLanes;
    alignas(64) float values[S::kLanes];
    S::store_f32(values, S::abs(load_activation<S, X, kParity, kMasked>(q, x, c, count)));
    for (int i = 0; i < count; ++i) {
      if (values[i] != values[i]) {
        scan.nan = true;
      } else if (values[i] >= q.threshold) {
        scan.outlier = true;
        if (q.outlier_columns != nullptr) q.outlier_columns[c + i] = 1;
      } else if (values[i] > scan.absmax) {
        scan.absmax = values[i];
      }
    }
  }
}

template <class S, class X, bool kParity, bool kMasked>
inline RowScan scan_row(const QuantizeRowsArgs& q, const typename X::type* x) noexcept {
  constexpr std::int64_t kStretch = 8 * S::kLanes;
  const auto threshold = __builtin_bit_cast(std::uint32_t, q.threshold);
  RowScan scan;
  typename S::I largest = S::zero_i();
  for (std::int64_t c = 0; c < q.x.cols; c += kStretch) {
    const std::int64_t end = c + kStretch < q.x.cols ? c + kStretch : q.x.cols;
    typename S::I magnitude = S::zero_i();
    if (end - c == kStretch) {
      KVANT_UNROLL
      for (int v = 0; v < 8; ++v) {
        magnitude = S::max_u32(magnitude, S::abs_bits(load_activation<S, X, kParity, kMasked>(
                                              q, x, c + v * S::kLanes, S::kLanes)));
      }
    } else {
      for (std::int64_t i = c; i < end; i += S::kLanes) {
        magnitude = S::max_u32(
            magnitude, S::abs_bits(load_activation<S, X, kParity, kMasked>(q, x, i, end - i)));
      }
    }
    if (S::any_at_least_u32(magnitude, threshold)) {  // an outlier or a NaN
      scan_outliers<S, X, kParity, kMasked>(q, x, c, end, scan);
    } else {
      largest = S::max_u32(largest, magnitude);
    }
  }
  alignas(64) std::uint32_t lanes[S::kLanes];
  S::store_i32(reinterpret_cast<std::int32_t*>(lanes), largest);
  for (const std::uint32_t lane : lanes) {
    const float value = __builtin_bit_cast(float, lane);
    if (value > scan.absmax) scan.absmax = value;
  }
  return scan;
}

template <class S>
inline void store_codes(void* codes, CodeFormat format, std::int64_t c, typename S::I q) noexcept {
  switch (format) {
    case CodeFormat::s8: S::store_i8(static_cast<std::int8_t*>(codes) + c, q); break;
    case CodeFormat::u8_offset: S::store_i8_offset(static_cast<std::uint8_t*>(codes) + c, q); break;
  }
}

/// kPlain: no outlier in the row and its own absmax, so that nothing is to be zeroed or clamped.
template <class S, class X, bool kParity, bool kMasked, bool kPlain>
inline void quantize_row(const QuantizeRowsArgs& q, const typename X::type* x, float inverse_scale,
                         void* codes) noexcept {
  const typename S::F threshold = S::set1(q.threshold);
  const typename S::F inverse = S::set1(inverse_scale);
  const auto quantize = [&](std::int64_t c, std::int64_t count) {
    typename S::F value = load_activation<S, X, kParity, kMasked>(q, x, c, count);
    if constexpr (kPlain) {
      value = S::mul(value, inverse);
    } else {
      const typename S::M is_outlier = S::greater_equal(S::abs(value), threshold);
      value = S::mul(S::zero_where(is_outlier, value), inverse);
      value = S::min(S::max(value, S::set1(-127.0f)), S::set1(127.0f));
    }
    store_codes<S>(codes, q.format, c, S::to_i32(value));
  };
  // This pass has the row in cache and leaves memory idle: let it fetch the next one. (An address,
  // not a pointer: behind the last row there may be nothing, and a prefetch does not mind.)
  const auto next = reinterpret_cast<std::uintptr_t>(x) +
                    static_cast<std::uintptr_t>(q.x.stride) * sizeof(typename X::type);
  std::int64_t c = 0;
  for (; c + S::kLanes <= q.x.cols; c += S::kLanes) {
    const auto offset = static_cast<std::uintptr_t>(c) * sizeof(typename X::type);
    __builtin_prefetch(reinterpret_cast<const void*>(next + offset), 0, 3);
    quantize(c, S::kLanes);
  }
  for (; c < q.x.cols; c += S::kLanes) quantize(c, q.x.cols - c);
  for (; c < q.k_padded; c += S::kLanes) store_codes<S>(codes, q.format, c, S::zero_i());
}

template <class S, class X, bool kParity, bool kMasked>
inline void quantize_rows_of(const QuantizeRowsArgs& q) noexcept {
  for (std::int64_t r = 0; r < q.x.rows; ++r) {
    const auto* x = static_cast<const typename X::type*>(q.x.data) + r * q.x.stride;
    const RowScan scan = scan_row<S, X, kParity, kMasked>(q, x);
    float absmax = q.given_absmax != nullptr ? *q.given_absmax : scan.absmax;
    if (absmax > 0.0f && absmax < kSmallestAbsmax) absmax = kSmallestAbsmax;
    const bool poisoned = scan.nan || (scan.outlier && q.outlier_columns == nullptr);
    if (poisoned) absmax = __builtin_nanf("");
    q.absmax[r] = absmax;
    if (q.codes == nullptr) continue;
    void* codes = static_cast<unsigned char*>(q.codes) + r * q.code_stride;
    if (!(absmax > 0.0f && absmax < __builtin_inff())) {  // zeros, or a row whose result is NaN
      for (std::int64_t c = 0; c < q.k_padded; c += S::kLanes) {
        store_codes<S>(codes, q.format, c, S::zero_i());
      }
      continue;
    }
    const float inverse = kParity ? 1.0f / absmax * 127.0f : 127.0f / absmax;
    if (scan.outlier || q.given_absmax != nullptr) {
      quantize_row<S, X, kParity, kMasked, false>(q, x, inverse, codes);
    } else {
      quantize_row<S, X, kParity, kMasked, true>(q, x, inverse, codes);
    }
  }
}

/// Needs k_padded to be a multiple of S::kLanes.
template <class S>
void quantize_rows(const QuantizeRowsArgs& q) noexcept {
  with_float_type(q.x.dtype, [&](auto type) {
    using X = decltype(type);
    if (q.parity) {
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
