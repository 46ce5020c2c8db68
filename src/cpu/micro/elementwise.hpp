#pragma once

// The linear quantizers' loops: minimum and maximum, quantize, dequantize, conversions.

#include "cpu/micro/simd_common.hpp"

namespace kvant {
namespace {

template <class S>
void range(const RangeArgs& a) noexcept {
  with_float_type(a.x.dtype, [&](auto type) {
    using X = decltype(type);
    const typename S::F low = S::set1(__builtin_inff());
    const typename S::F high = S::set1(-__builtin_inff());
    for (std::int64_t r = 0; r < a.x.rows; ++r) {
      const auto* x = static_cast<const typename X::type*>(a.x.data) + r * a.x.stride;
      typename S::F row_min = low;
      typename S::F row_max = high;
      for (std::int64_t c = 0; c < a.x.cols; c += S::kLanes) {
        const std::int64_t count = a.x.cols - c;
        typename S::F value = load_floats<S, X>(x + c, count);
        if (a.per_column) {  // min and max give their second operand where the first is NaN
          const typename S::F old_min = load_floats<S, F32>(a.min + c, count);
          const typename S::F old_max = load_floats<S, F32>(a.max + c, count);
          store_floats<S, F32>(a.min + c, S::min(value, old_min), count);
          store_floats<S, F32>(a.max + c, S::max(value, old_max), count);
        } else {
          if (count < S::kLanes) {  // the padding must not count
            const typename S::M valid = S::first_lanes(static_cast<int>(count));
            row_min = S::min(S::select(valid, value, low), row_min);
            row_max = S::max(S::select(valid, value, high), row_max);
          } else {
            row_min = S::min(value, row_min);
            row_max = S::max(value, row_max);
          }
        }
      }
      if (!a.per_column) {
        a.min[r] = S::horizontal_min(row_min);
        a.max[r] = S::horizontal_max(row_max);
      }
    }
  });
}

/// A parameter of kLanes neighbouring columns: one value, or a vector of them.
template <class S>
inline typename S::F load_parameter(const float* p, std::int32_t col_step, std::int64_t c,
                                    std::int64_t count) noexcept {
  return col_step == 0 ? S::set1(*p) : load_floats<S, F32>(p + c, count);
}

template <class S>
inline typename S::F round_codes(RoundOrder order, typename S::F x, typename S::F scale,
                                 typename S::F zero_point) noexcept {
  switch (order) {
    case RoundOrder::kvant: return S::add(S::round(S::mul(x, scale)), zero_point);
    case RoundOrder::divide: return S::add(S::round(S::div(x, scale)), zero_point);
    case RoundOrder::torch_channel: return S::round(S::add(S::mul(x, scale), zero_point));
    case RoundOrder::torch_tensor: return S::round(S::fma(x, scale, zero_point));
  }
  return zero_point;
}

template <class S>
void quantize(const QuantizeArgs& a) noexcept {
  with_float_type(a.x.dtype, [&](auto type) {
    using X = decltype(type);
    const typename S::F lowest = S::set1(a.lowest);
    const typename S::F highest = S::set1(a.highest);
    for (std::int64_t r = 0; r < a.x.rows; ++r) {
      const auto* x = static_cast<const typename X::type*>(a.x.data) + r * a.x.stride;
      const float* scale = a.scale + r * a.row_step;
      const float* zero_point = a.zero_point + r * a.row_step;
      auto* codes = static_cast<std::int8_t*>(a.codes) + r * a.code_stride;
      for (std::int64_t c = 0; c < a.x.cols; c += S::kLanes) {
        const std::int64_t count = a.x.cols - c;
        const typename S::F value = load_floats<S, X>(x + c, count);
        const typename S::F zero = load_parameter<S>(zero_point, a.col_step, c, count);
        typename S::F q =
            round_codes<S>(a.order, value, load_parameter<S>(scale, a.col_step, c, count), zero);
        q = S::select(S::is_nan(value), zero, q);
        const typename S::I code = S::to_i32(S::min(S::max(q, lowest), highest));
        if (count >= S::kLanes) {
          S::store_low_bytes(codes + c, code);
        } else {
          alignas(64) std::int8_t buffer[S::kLanes];
          S::store_low_bytes(buffer, code);
          __builtin_memcpy(codes + c, buffer, static_cast<std::size_t>(count));
        }
      }
    }
  });
}

template <class S>
inline typename S::I load_codes(const std::int8_t* codes, bool is_unsigned) noexcept {
  return is_unsigned ? S::load_u8(reinterpret_cast<const std::uint8_t*>(codes)) : S::load_i8(codes);
}

template <class S>
void dequantize(const DequantizeArgs& a) noexcept {
  with_float_type(a.y_dtype, [&](auto type) {
    using Y = decltype(type);
    for (std::int64_t r = 0; r < a.rows; ++r) {
      const auto* codes = static_cast<const std::int8_t*>(a.codes) + r * a.code_stride;
      const float* scale = a.scale + r * a.row_step;
      const float* zero_point = a.zero_point + r * a.row_step;
      auto* y = static_cast<typename Y::type*>(a.y) + r * a.y_stride;
      for (std::int64_t c = 0; c < a.cols; c += S::kLanes) {
        const std::int64_t count = a.cols - c;
        typename S::I code;
        if (count >= S::kLanes) {
          code = load_codes<S>(codes + c, a.is_unsigned);
        } else {
          const PaddedTail<S, std::int8_t> tail(codes + c, count);
          code = load_codes<S>(tail.values, a.is_unsigned);
        }
        const typename S::F centred =
            S::sub(S::to_f32(code), load_parameter<S>(zero_point, a.col_step, c, count));
        const typename S::F value = S::mul(centred, load_parameter<S>(scale, a.col_step, c, count));
        store_floats<S, Y>(y + c, value, count);
      }
    }
  });
}

template <class S>
void convert(const ConvertArgs& a) noexcept {
  with_float_type(a.x_dtype, [&](auto from) {
    with_float_type(a.y_dtype, [&](auto to) {
      using X = decltype(from);
      using Y = decltype(to);
      const auto* x = static_cast<const typename X::type*>(a.x);
      auto* y = static_cast<typename Y::type*>(a.y);
      for (std::int64_t i = 0; i < a.count; i += S::kLanes) {
        store_floats<S, Y>(y + i, load_floats<S, X>(x + i, a.count - i), a.count - i);
      }
    });
  });
}

}  // namespace
}  // namespace kvant
