#pragma once

// quantize_rows: row absmax, outlier columns and int8 codes. The row is read from memory once; the
// second pass finds it in the first-level cache.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

/// Loads count (or all) lanes of x as float, through fp16 where bitsandbytes does that, with the
/// columns of known outlier features zeroed.
template <class S, class X>
inline typename S::F load_activation(const typename X::type* x, std::int64_t c, std::int64_t count,
                                     bool parity, const std::uint32_t* keep_mask) noexcept {
  typename S::F value = load_floats<S, X>(x + c, count);
  if (parity) value = S::round_f16(value);
  if (keep_mask != nullptr) {
    if (count >= S::kLanes) {
      value = S::bit_and(value, S::load_i32(reinterpret_cast<const std::int32_t*>(keep_mask + c)));
    } else {
      const PaddedTail<S, std::uint32_t> tail(keep_mask + c, count);
      value = S::bit_and(value, S::load_i32(reinterpret_cast<const std::int32_t*>(tail.values)));
    }
  }
  return value;
}

struct RowScan {
  float absmax;
  bool nan;
  bool outlier;
};

template <class S, class X>
inline RowScan scan_row(const QuantizeRowsArgs& q, const typename X::type* x) noexcept {
  const typename S::F threshold = S::set1(q.threshold);
  typename S::F absmax = S::set1(0.0f);
  typename S::M nan = S::no_mask();
  bool outlier = false;
  for (std::int64_t c = 0; c < q.x.cols; c += S::kLanes) {
    const typename S::F value =
        load_activation<S, X>(x, c, q.x.cols - c, q.parity, q.keep_mask);
    const typename S::F magnitude = S::abs(value);
    const typename S::M is_outlier = S::greater_equal(magnitude, threshold);  // false for NaN
    nan = S::mask_or(nan, S::is_nan(value));
    absmax = S::max(S::zero_where(is_outlier, magnitude), absmax);  // a NaN leaves absmax as it is
    if (S::any(is_outlier)) {
      outlier = true;
      if (q.outlier_columns != nullptr) {
        const std::uint32_t bits = S::bits(is_outlier);
        for (int i = 0; i < S::kLanes; ++i) {
          if ((bits >> i & 1u) != 0) q.outlier_columns[c + i] = 1;
        }
      }
    }
  }
  return {S::horizontal_max(absmax), S::any(nan), outlier};
}

template <class S>
inline void store_codes(void* codes, CodeFormat format, std::int64_t c, typename S::I q) noexcept {
  switch (format) {
    case CodeFormat::s8: S::store_i8(static_cast<std::int8_t*>(codes) + c, q); break;
    case CodeFormat::u8_offset: S::store_i8_offset(static_cast<std::uint8_t*>(codes) + c, q); break;
  }
}

template <class S, class X>
inline void quantize_row(const QuantizeRowsArgs& q, const typename X::type* x, float inverse_scale,
                         void* codes) noexcept {
  const typename S::F threshold = S::set1(q.threshold);
  const typename S::F inverse = S::set1(inverse_scale);
  std::int64_t c = 0;
  for (; c < q.x.cols; c += S::kLanes) {
    const typename S::F value =
        load_activation<S, X>(x, c, q.x.cols - c, q.parity, q.keep_mask);
    const typename S::M is_outlier = S::greater_equal(S::abs(value), threshold);
    const typename S::F scaled = S::mul(S::zero_where(is_outlier, value), inverse);
    // Only a given absmax smaller than the row's own makes this clamp do anything.
    const typename S::F clamped = S::min(S::max(scaled, S::set1(-127.0f)), S::set1(127.0f));
    store_codes<S>(codes, q.format, c, S::to_i32(clamped));
  }
  for (; c < q.k_padded; c += S::kLanes) store_codes<S>(codes, q.format, c, S::zero_i());
}

/// Needs k_padded to be a multiple of S::kLanes.
template <class S>
void quantize_rows(const QuantizeRowsArgs& q) noexcept {
  with_float_type(q.x.dtype, [&](auto type) {
    using X = decltype(type);
    for (std::int64_t r = 0; r < q.x.rows; ++r) {
      const auto* x = static_cast<const typename X::type*>(q.x.data) + r * q.x.stride;
      const RowScan scan = scan_row<S, X>(q, x);
      float absmax = q.given_absmax != nullptr ? *q.given_absmax : scan.absmax;
      if (absmax > 0.0f && absmax < kSmallestAbsmax) absmax = kSmallestAbsmax;
      const bool poisoned = scan.nan || (scan.outlier && q.outlier_columns == nullptr);
      if (poisoned) absmax = __builtin_nanf("");
      q.absmax[r] = absmax;
      if (q.codes == nullptr) continue;
      const bool has_codes = absmax > 0.0f && absmax < __builtin_inff();
      void* codes = static_cast<unsigned char*>(q.codes) + r * q.code_stride;
      if (has_codes) {
        quantize_row<S, X>(q, x, q.parity ? 1.0f / absmax * 127.0f : 127.0f / absmax, codes);
      } else {  // zeros, or a row whose result is NaN
        for (std::int64_t c = 0; c < q.k_padded; c += S::kLanes) {
          store_codes<S>(codes, q.format, c, S::zero_i());
        }
      }
    }
  });
}

}  // namespace
}  // namespace kvant
