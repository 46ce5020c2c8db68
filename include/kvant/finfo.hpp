#pragma once

/// @file
/// Limits of the element types with the fields, the values and the printed form of torch.finfo and
/// torch.iinfo (torch 2.13; also for tf32 and the 4- and 2-bit integers, which torch has not).

#include <bit>
#include <cstdint>
#include <string>

#include "kvant/config.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"

namespace kvant {

/// Limits of a floating-point type. The values are exact: double holds every one of them.
struct FloatInfo {
  DType dtype;
  int bits;                ///< in storage
  double eps;              ///< distance from 1 to the next value (e5m2fnuz: as torch, half of it)
  double max;              ///< largest finite value
  double min;              ///< lowest finite value
  double smallest_normal;  ///< smallest positive normal value
  double tiny;             ///< the same by its older name
  double resolution;       ///< 10^-digits: decimal digits that survive the type
};

/// Limits of an integer type.
struct IntInfo {
  DType dtype;
  int bits;
  std::int64_t min;
  std::uint64_t max;
};

namespace detail {

/// 2^exponent for -1022..1023.
constexpr double power_of_two(int exponent) noexcept {
  return std::bit_cast<double>(static_cast<std::uint64_t>(exponent + 1023) << 52);
}

constexpr FloatInfo float_info(DType dtype) noexcept {
  const DTypeInfo& d = describe(dtype);
  FloatInfo info{dtype, d.bits, power_of_two(-d.mantissa_bits), 0, 0, 0, 0, 1};
  info.smallest_normal = power_of_two(1 - d.exponent_bias);
  // The largest finite value: IEEE keeps the top exponent for Inf and NaN, fn only its last code,
  // fnuz nothing.
  const int top = (1 << d.exponent_bits) - 1 - d.exponent_bias;
  switch (dtype) {
    case DType::float8_e4m3fn: info.max = (2 - 2 * info.eps) * power_of_two(top); break;
    case DType::float8_e4m3fnuz: info.max = (2 - info.eps) * power_of_two(top); break;
    case DType::float8_e5m2fnuz:
      info.max = (2 - info.eps) * power_of_two(top);
      info.eps = 0.125;  // torch's figure; neighbours of 1 are 0.25 apart
      break;
    case DType::float8_e8m0fnu:
      info.max = power_of_two(127);
      info.smallest_normal = power_of_two(-127);
      break;
    default: info.max = (2 - info.eps) * power_of_two(top - 1); break;
  }
  info.min = dtype == DType::float8_e8m0fnu ? info.smallest_normal : -info.max;
  info.tiny = info.smallest_normal;
  // floor(mantissa_bits * log10(2)) decimal digits; each quotient below is correctly rounded.
  double scale = 1;
  for (int digits = d.mantissa_bits * 301 / 1000; digits > 0; --digits) scale *= 10;
  info.resolution = 1 / scale;
  return info;
}

constexpr IntInfo int_info(DType dtype) noexcept {
  const DTypeInfo& d = describe(dtype);
  const std::uint64_t all = ~std::uint64_t{0} >> (64 - d.bits);
  if (d.kind == DTypeKind::unsigned_integer) return {dtype, d.bits, 0, all};
  return {dtype, d.bits, -static_cast<std::int64_t>(all >> 1) - 1, all >> 1};
}

constexpr bool has_float_info(DType dtype) noexcept {
  return describe(dtype).kind == DTypeKind::floating && describe(dtype).bits >= 8;
}
constexpr bool has_int_info(DType dtype) noexcept {
  return describe(dtype).kind == DTypeKind::signed_integer ||
         describe(dtype).kind == DTypeKind::unsigned_integer;
}

}  // namespace detail

/// Limits of a floating-point storage type, at compile time: finfo<bfloat16>().eps.
template <class T>
requires(detail::has_float_info(dtype_of<T>)) constexpr FloatInfo finfo() noexcept {
  return detail::float_info(dtype_of<T>);
}

/// Limits of an integer storage type, at compile time: iinfo<std::int8_t>().max.
template <class T>
requires(detail::has_int_info(dtype_of<T>)) constexpr IntInfo iinfo() noexcept {
  return detail::int_info(dtype_of<T>);
}

/// The same at run time. complex64 has the limits of its parts, as in torch.
/// @throws Error invalid_argument for an integer or bool (torch: TypeError), unsupported for the
///         4- and 6-bit floats.
[[nodiscard]] inline FloatInfo finfo(DType dtype) {
  if (dtype == DType::complex64) return detail::float_info(DType::float32);
  if (detail::has_float_info(dtype)) return detail::float_info(dtype);
  const std::string name(to_string(dtype));
  if (detail::has_int_info(dtype)) {
    throw Error(ErrorCode::invalid_argument,
                "finfo: " + name + " is not a floating-point type; iinfo has its limits");
  }
  if (dtype == DType::boolean) {
    throw Error(ErrorCode::invalid_argument, "finfo: bool is not a floating-point type");
  }
  throw Error(ErrorCode::unsupported, "finfo: no limits for " + name);
}
/// @throws Error invalid_argument for anything but an integer (torch: TypeError)
[[nodiscard]] inline IntInfo iinfo(DType dtype) {
  if (detail::has_int_info(dtype)) return detail::int_info(dtype);
  const std::string name(to_string(dtype));
  throw Error(ErrorCode::invalid_argument,
              "iinfo: " + name + " is not an integer type" +
                  (detail::has_float_info(dtype) ? "; finfo has its limits" : ""));
}

/// torch's printed form: finfo(resolution=0.001, min=-65504, max=65504, eps=0.000976562, ...).
[[nodiscard]] inline std::string to_string(const FloatInfo& info) {
  return "finfo(resolution=" + detail::number_text(info.resolution) +
         ", min=" + detail::number_text(info.min) + ", max=" + detail::number_text(info.max) +
         ", eps=" + detail::number_text(info.eps) +
         ", smallest_normal=" + detail::number_text(info.smallest_normal) +
         ", tiny=" + detail::number_text(info.tiny) +
         ", dtype=" + std::string(to_string(info.dtype)) + ")";
}

/// torch's printed form: iinfo(min=-128, max=127, dtype=int8).
[[nodiscard]] inline std::string to_string(const IntInfo& info) {
  return "iinfo(min=" + detail::number_text(static_cast<double>(info.min)) +
         ", max=" + detail::number_text(static_cast<double>(info.max)) +
         ", dtype=" + std::string(to_string(info.dtype)) + ")";
}

}  // namespace kvant
