#pragma once

/// @file
/// fmt formatters (target kvant::fmt): DType, ErrorCode, the small floats (with float's format
/// specifications), the small integers (with int's), FloatInfo, IntInfo, BlockShape, ErrorMetrics.
///
///     fmt::print("{} {:.3f} {}\n", kvant::DType::bfloat16, kvant::bfloat16(0.1f), metrics);

#include <fmt/format.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/error_metrics.hpp"
#include "kvant/finfo.hpp"
#include "kvant/float8.hpp"
#include "kvant/int4.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/tf32.hpp"

namespace kvant::detail {

/// A storage type that formats as what it converts to.
template <class T, class As>
struct FormatAs : fmt::formatter<As> {
  template <class FormatContext>
  auto format(const T& value, FormatContext& context) const {
    return fmt::formatter<As>::format(static_cast<As>(value), context);
  }
};

/// A type that formats as its to_string.
template <class T>
struct FormatText : fmt::formatter<std::string_view> {
  template <class FormatContext>
  auto format(const T& value, FormatContext& context) const {
    const std::string text(to_string(value));
    return fmt::formatter<std::string_view>::format(text, context);
  }
};

}  // namespace kvant::detail

/// @cond
template <>
struct fmt::formatter<kvant::float16> : kvant::detail::FormatAs<kvant::float16, float> {};
template <>
struct fmt::formatter<kvant::bfloat16> : kvant::detail::FormatAs<kvant::bfloat16, float> {};
template <>
struct fmt::formatter<kvant::tf32> : kvant::detail::FormatAs<kvant::tf32, float> {};
template <int E, int M, int B, kvant::Float8Flavour F>
struct fmt::formatter<kvant::Float8<E, M, B, F>>
    : kvant::detail::FormatAs<kvant::Float8<E, M, B, F>, float> {};
template <int Bits, bool Signed>
struct fmt::formatter<kvant::SmallInt<Bits, Signed>>
    : kvant::detail::FormatAs<kvant::SmallInt<Bits, Signed>, std::int32_t> {};

template <>
struct fmt::formatter<kvant::DType> : kvant::detail::FormatText<kvant::DType> {};
template <>
struct fmt::formatter<kvant::ErrorCode> : kvant::detail::FormatText<kvant::ErrorCode> {};
template <>
struct fmt::formatter<kvant::FloatInfo> : kvant::detail::FormatText<kvant::FloatInfo> {};
template <>
struct fmt::formatter<kvant::IntInfo> : kvant::detail::FormatText<kvant::IntInfo> {};
template <>
struct fmt::formatter<kvant::ErrorMetrics> : kvant::detail::FormatText<kvant::ErrorMetrics> {};

/// "tensor", "row", "column", "group of 128", "block 16x32".
template <>
struct fmt::formatter<kvant::BlockShape> : fmt::formatter<std::string_view> {
  template <class FormatContext>
  auto format(const kvant::BlockShape& block, FormatContext& context) const {
    std::string text;
    if (block == kvant::per_tensor) {
      text = "tensor";
    } else if (block == kvant::per_row) {
      text = "row";
    } else if (block == kvant::per_column) {
      text = "column";
    } else if (block.rows == 1) {
      text = fmt::format("group of {}", block.cols);
    } else {
      const auto side = [](std::int64_t n) {
        return n == 0 ? std::string("all") : std::to_string(n);
      };
      text = fmt::format("block {}x{}", side(block.rows), side(block.cols));
    }
    return fmt::formatter<std::string_view>::format(text, context);
  }
};
/// @endcond
