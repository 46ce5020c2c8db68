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

namespace {

/// The parameters of one element.
struct Step {
  std::size_t block;
  float scale;
  float factor;  ///< its inverse
  float zero;
};

/// Calls each(row, column, x, step) for every element.
template <class Each>
void for_each_step(const ConstAnyMatrix& x, const QuantParams& params, Each&& each) {
  const BlockShape block = params.block;
  const std::int64_t blocks_across = block.count_cols(x.cols);
  for (std::int64_t r = 0; r < x.rows; ++r) {
    const std::int64_t block_row = block.rows == 0 ? 0 : r / block.rows;
    for (std::int64_t c = 0; c < x.cols; ++c) {
      const std::int64_t block_col = block.cols == 0 ? 0 : c / block.cols;
      const auto i = static_cast<std::size_t>(block_row * blocks_across + block_col);
      each(r, c, detail::load_element(x.data, x.dtype, r * x.stride + c),
           Step{i, params.scale[i],
                params.inv_scale.empty() ? 1 / params.scale[i] : params.inv_scale[i],
                params.zero_point.empty() ? 0.0f : static_cast<float>(params.zero_point[i])});
    }
  }
}

void check_steps(const char* who, const ConstAnyMatrix& x, const QuantParams& params,
                 const char* what, const ConstAnyMatrix& other) {
  check_params(params, x.rows, x.cols);
  if (!params.shift.empty()) {
    detail::fail(ErrorCode::unsupported, std::string(who) + ": parameters with a float shift");
  }
  if (other.rows == x.rows && other.cols == x.cols) return;
  detail::fail(ErrorCode::shape_mismatch, std::string(who) + ": x is " +
                                              detail::shape_text(x.rows, x.cols) + ", " + what +
                                              " " + detail::shape_text(other.rows, other.cols));
}

}  // namespace

void fake_quantize_mask(ConstAnyMatrix x, const QuantParams& params, AnyMatrix mask) {
  constexpr const char* kWho = "fake_quantize_mask";
  const detail::ScopedFloatEnvironment environment;
  detail::check_float(kWho, "x", x);
  detail::check_writable(kWho, "the mask", mask);
  if (mask.dtype != DType::uint8 && mask.dtype != DType::boolean) {
    detail::fail(ErrorCode::unsupported, std::string(kWho) + ": a mask of type " +
                                             std::string(to_string(mask.dtype)) +
                                             "; uint8 and bool are possible");
  }
  check_steps(kWho, x, params, "the mask", mask);
  const auto lowest = static_cast<float>(params.scheme.lowest);
  const auto highest = static_cast<float>(params.scheme.highest);
  auto* out = static_cast<std::uint8_t*>(mask.data);
  for_each_step(x, params, [&](std::int64_t r, std::int64_t c, float value, const Step& step) {
    const float code = round_half_even(value * step.factor) + step.zero;
    out[r * mask.stride + c] = code >= lowest && code <= highest ? 1 : 0;  // a NaN is neither
  });
}

LearnedStepGradients learned_step_gradients(ConstAnyMatrix x, const QuantParams& params,
                                            ConstAnyMatrix grad_y, AnyMatrix grad_x,
                                            double factor) {
  constexpr const char* kWho = "learned_step_gradients";
  const detail::ScopedFloatEnvironment environment;
  detail::check_float(kWho, "x", x);
  detail::check_float(kWho, "grad_y", grad_y);
  detail::check_float(kWho, "grad_x", grad_x);
  detail::check_writable(kWho, "grad_x", grad_x);
  check_steps(kWho, x, params, "grad_y", grad_y);
  check_steps(kWho, x, params, "grad_x", grad_x);
  if (describe(params.scheme.dtype).kind == DTypeKind::floating) {
    detail::fail(ErrorCode::unsupported, std::string(kWho) + ": codes of type " +
                                             std::string(to_string(params.scheme.dtype)) +
                                             " have no steps of one length; integers have");
  }
  const auto lowest = static_cast<float>(params.scheme.lowest);
  const auto highest = static_cast<float>(params.scheme.highest);
  std::vector<double> scale(params.scale.size());
  std::vector<double> zero_point(params.scale.size());
  std::vector<double> elements(params.scale.size());
  for_each_step(x, params, [&](std::int64_t r, std::int64_t c, float value, const Step& step) {
    const float gradient = detail::load_element(grad_y.data, grad_y.dtype, r * grad_y.stride + c);
    const float code = round_half_even(value * step.factor) + step.zero;
    const bool inside = code >= lowest && code <= highest;
    const auto along = static_cast<double>(gradient);
    detail::store_element(grad_x.data, grad_x.dtype, r * grad_x.stride + c,
                          inside ? gradient : gradient * 0.0f);
    elements[step.block] += 1;
    if (std::isnan(code)) return;
    if (inside) {
      scale[step.block] += along * (static_cast<double>(code - step.zero) -
                                    static_cast<double>(value) * static_cast<double>(step.factor));
    } else {
      scale[step.block] +=
          along * static_cast<double>((code < lowest ? lowest : highest) - step.zero);
      zero_point[step.block] -= along * static_cast<double>(step.scale);
    }
  });
  LearnedStepGradients result;
  for (std::size_t i = 0; i < scale.size(); ++i) {
    const double by = factor != 0 ? factor
                                  : 1 / std::sqrt(std::max(elements[i], 1.0) *
                                                  std::max(1.0, static_cast<double>(highest)));
    result.scale.push_back(static_cast<float>(by * scale[i]));
    result.zero_point.push_back(static_cast<float>(by * zero_point[i]));
  }
  return result;
}

}  // namespace kvant::torch
