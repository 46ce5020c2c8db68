#include "kvant/torch_quantize.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "kvant/core/float_environment.hpp"
#include "kvant/error.hpp"
#include "kvant/float_element.hpp"
#include "kvant/quantize.hpp"
#include "ops/support/validate.hpp"

namespace kvant::torch {
namespace {

/// Below it torch raises a scale, so that its reciprocal stays usable: the float next to 6.1e-5.
constexpr float kSmallestDynamicScale = 6.1e-5f;
constexpr double kScaleOfZeros = 0.1;

struct Range {
  float min = 0;  ///< both include 0
  float max = 0;
};

Range range_of(const ConstAnyMatrix& x) {
  Range range;
  for (std::int64_t r = 0; r < x.rows; ++r) {
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const float value = detail::load_element(x.data, x.dtype, r * x.stride + c);
      if (!std::isfinite(value)) {
        detail::fail(ErrorCode::not_finite, "choose_dynamic_params: x[" + std::to_string(r) + ", " +
                                                std::to_string(c) + "] is " +
                                                std::to_string(value));
      }
      range.min = std::min(range.min, value);
      range.max = std::max(range.max, value);
    }
  }
  return range;
}

/// The zero point that the end of the range with the smaller magnitude in codes asks for.
std::int32_t zero_point_of(const Range& range, double scale, std::int32_t lowest,
                           std::int32_t highest) {
  const double below = static_cast<double>(range.min) / scale;
  const double above = static_cast<double>(range.max) / scale;
  const double at_min = std::abs(static_cast<double>(lowest)) + std::abs(below);
  const double at_max = std::abs(static_cast<double>(highest)) + std::abs(above);
  const double wanted = at_min < at_max ? lowest - below : highest - above;
  if (wanted < lowest) return lowest;
  if (wanted > highest) return highest;
  // Codes are far below 2^23: the nearest one to the double is that of its distance to the floor.
  const double floor = std::floor(wanted);
  const double rest = wanted - floor;
  const auto code = static_cast<std::int32_t>(floor);
  if (rest != 0.5) return rest < 0.5 ? code : code + 1;
  return code % 2 == 0 ? code : code + 1;
}

}  // namespace

DynamicParams choose_dynamic_params(ConstAnyMatrix x, DType dtype, bool reduce_range) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_float("choose_dynamic_params", "x", x);
  if (dtype != DType::int8 && dtype != DType::uint8) {
    detail::fail(ErrorCode::unsupported, "choose_dynamic_params: codes of type " +
                                             std::string(to_string(dtype)) +
                                             "; int8 and uint8 are possible");
  }
  const bool is_signed = dtype == DType::int8;
  const std::int32_t lowest = is_signed ? (reduce_range ? -64 : -128) : 0;
  const std::int32_t highest = lowest + (reduce_range ? 127 : 255);
  Range range = range_of(x);
  DynamicParams result;
  result.scale = (static_cast<double>(range.max) - static_cast<double>(range.min)) /
                 static_cast<double>(highest - lowest);
  const auto narrow = static_cast<float>(result.scale);
  if (narrow == 0 || std::isinf(1 / narrow)) result.scale = kScaleOfZeros;
  if (result.scale < static_cast<double>(kSmallestDynamicScale)) {
    const auto factor =
        static_cast<float>(static_cast<double>(kSmallestDynamicScale) / result.scale);
    result.scale = static_cast<double>(kSmallestDynamicScale);
    const float width = kSmallestDynamicScale * static_cast<float>(highest - lowest);
    if (range.min == 0) {
      range.max = width;
    } else if (range.max == 0) {
      range.min = -width;
    } else {
      range.min *= factor;
      range.max *= factor;
    }
  }
  result.zero_point = zero_point_of(range, result.scale, lowest, highest);
  result.params.scheme = is_signed ? torch_qint8_affine : torch_quint8_affine;
  result.params.scale = {static_cast<float>(result.scale)};
  result.params.zero_point = {result.zero_point};
  return result;
}

void fake_quantize_mask(ConstAnyMatrix x, const QuantParams& params, AnyMatrix mask) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_float("fake_quantize_mask", "x", x);
  detail::check_writable("fake_quantize_mask", "the mask", mask);
  check_params(params, x.rows, x.cols);
  if (mask.dtype != DType::uint8 && mask.dtype != DType::boolean) {
    detail::fail(ErrorCode::unsupported, "fake_quantize_mask: a mask of type " +
                                             std::string(to_string(mask.dtype)) +
                                             "; uint8 and bool are possible");
  }
  if (!params.shift.empty()) {
    detail::fail(ErrorCode::unsupported, "fake_quantize_mask: parameters with a float shift");
  }
  if (mask.rows != x.rows || mask.cols != x.cols) {
    detail::fail(ErrorCode::shape_mismatch, "fake_quantize_mask: x is " +
                                                detail::shape_text(x.rows, x.cols) + ", the mask " +
                                                detail::shape_text(mask.rows, mask.cols));
  }
  const BlockShape block = params.block;
  const std::int64_t blocks_across = block.count_cols(x.cols);
  const auto lowest = static_cast<float>(params.scheme.lowest);
  const auto highest = static_cast<float>(params.scheme.highest);
  auto* out = static_cast<std::uint8_t*>(mask.data);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const std::int64_t block_row = block.rows == 0 ? 0 : r / block.rows;
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const std::int64_t block_col = block.cols == 0 ? 0 : c / block.cols;
      const auto i = static_cast<std::size_t>(block_row * blocks_across + block_col);
      const float factor = params.inv_scale.empty() ? 1 / params.scale[i] : params.inv_scale[i];
      const float zero =
          params.zero_point.empty() ? 0.0f : static_cast<float>(params.zero_point[i]);
      const float value = detail::load_element(x.data, x.dtype, r * x.stride + c);
      const float code = round_half_even(value * factor) + zero;
      out[r * mask.stride + c] = code >= lowest && code <= highest ? 1 : 0;  // a NaN is neither
    }
  }
}

}  // namespace kvant::torch
