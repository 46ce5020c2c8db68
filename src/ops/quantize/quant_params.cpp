#include "kvant/quant_params.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kvant/finfo.hpp"
#include "kvant/float_element.hpp"
#include "ops/support/float_environment.hpp"
#include "ops/support/number_text.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

namespace {

using detail::fail;
using detail::number_text;
using detail::round_to;

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kTorchEps = 0x1p-23f;

std::string block_text(std::size_t i) {
  return " of block " + std::to_string(i);
}

void check_scheme(const QuantScheme& scheme) {
  switch (scheme.dtype) {
    case DType::int8:
    case DType::uint8:
    case DType::int4:
    case DType::uint4:
    case DType::int2:
    case DType::uint2: break;
    default:
      fail(ErrorCode::unsupported,
           "codes of type " + std::string(to_string(scheme.dtype)) +
               " are not possible; int8, uint8, int4, uint4, int2 and uint2 are");
  }
  const IntInfo limits = detail::int_info(scheme.dtype);
  if (scheme.lowest >= scheme.highest || scheme.lowest < limits.min ||
      scheme.highest > static_cast<std::int64_t>(limits.max)) {
    fail(ErrorCode::invalid_argument,
         "the code range " + std::to_string(scheme.lowest) + ".." + std::to_string(scheme.highest) +
             " is not a range of " + std::string(to_string(scheme.dtype)) + " (" +
             std::to_string(limits.min) + ".." + std::to_string(limits.max) + ")");
  }
  if (scheme.rule == ScaleRule::absmax && scheme.highest < 1) {
    fail(ErrorCode::invalid_argument, "a symmetric scheme needs a highest code of 1 or more, not " +
                                          std::to_string(scheme.highest));
  }
}

// What one block is quantized with; shift only under quanto_shift.
struct Choice {
  ScaleChoice scale;
  float shift = 0;
};

Choice choose_torch(float min, float max, const QuantScheme& scheme) {
  const float low = std::min(min, 0.0f);
  const float high = std::max(max, 0.0f);
  const auto steps = static_cast<float>(scheme.highest - scheme.lowest);
  if (scheme.rule == ScaleRule::torch_symmetric) {
    const float scale = std::max(std::max(-low, high) / (steps / 2), kTorchEps);
    std::int32_t middle = 0;  // 128 for quint8, the middle of a custom range
    if (scheme.lowest == 0) middle = scheme.highest == 255 ? 128 : scheme.highest / 2;
    return {{scale, 1 / scale, middle}};
  }
  const float scale = std::max((high - low) / steps, kTorchEps);
  const float down = round_half_even(low / scale);
  if (!std::isfinite(scale) || !std::isfinite(down)) {
    fail(ErrorCode::not_finite, "the range " + number_text(min) + ".." + number_text(max) +
                                    " overflows torch's float32 rule; kvant's own affine schemes "
                                    "compute in double");
  }
  const std::int32_t zero_point = scheme.lowest - static_cast<std::int32_t>(down);
  return {{scale, 1 / scale, std::clamp(zero_point, scheme.lowest, scheme.highest)}};
}

Choice choose_quanto(float min, float max, const QuantScheme& scheme, DType type) {
  const auto highest = static_cast<float>(scheme.highest);
  if (scheme.rule == ScaleRule::quanto_absmax) {
    const float scale = round_to(type, std::max(std::abs(min), std::abs(max)) / highest);
    // quanto has no guard here: its zeros become 0 / 0.
    return {{scale == 0 ? 1 : scale, 0, 0}};
  }
  const float range = round_to(type, max - min);
  if (!std::isfinite(range)) {
    fail(ErrorCode::not_finite, "the range " + number_text(min) + ".." + number_text(max) +
                                    " overflows " + std::string(to_string(type)));
  }
  float scale = round_to(type, range / highest);
  if (scheme.rule == ScaleRule::quanto_shift) return {{scale, 0, 0}, -min};
  if (scale == 0) scale = 1;
  const float zero = round_half_even(round_to(type, -min / scale));
  return {{scale, 0, static_cast<std::int32_t>(std::clamp(zero, 0.0f, highest))}};
}

Choice choose(float min, float max, const QuantScheme& scheme, DType arithmetic) {
  if (min == kInfinity && max == -kInfinity) {  // nothing was seen
    return {{1, 1, std::clamp(0, scheme.lowest, scheme.highest)}};
  }
  switch (scheme.rule) {
    case ScaleRule::absmax:
      return {symmetric_scale(std::max(std::abs(min), std::abs(max)), scheme.highest)};
    case ScaleRule::affine: return {affine_scale(min, max, scheme.lowest, scheme.highest)};
    case ScaleRule::torch_symmetric:
    case ScaleRule::torch_affine: return choose_torch(min, max, scheme);
    case ScaleRule::quanto_absmax:
    case ScaleRule::quanto_shift:
    case ScaleRule::quanto_zeropoint: return choose_quanto(min, max, scheme, arithmetic);
  }
  fail(ErrorCode::invalid_argument, "the scheme has an unknown rule");
}

}  // namespace

BlockShape per_channel(int axis) {
  if (axis == 0 || axis == -2) return per_row;
  if (axis == 1 || axis == -1) return per_column;
  fail(ErrorCode::invalid_argument,
       "per_channel: a matrix has the axes 0 and 1 (or -2 and -1), not " + std::to_string(axis));
}

BlockShape per_group(std::int64_t size) {
  if (size < 1) {
    fail(ErrorCode::invalid_argument,
         "per_group: a group needs 1 element or more, not " + std::to_string(size));
  }
  return {1, size};
}

BlockShape per_block(std::int64_t rows, std::int64_t cols) {
  if (rows < 1 || cols < 1) {
    fail(ErrorCode::invalid_argument,
         "per_block: a block needs sides of 1 or more, not " + detail::shape_text(rows, cols));
  }
  return {rows, cols};
}

QuantParams params_from_range(const std::vector<float>& min, const std::vector<float>& max,
                              const QuantScheme& scheme, BlockShape block, DType arithmetic) {
  const detail::ScopedFloatEnvironment environment;
  check_scheme(scheme);
  if (min.size() != max.size()) {
    fail(ErrorCode::shape_mismatch, "params_from_range: " + std::to_string(min.size()) +
                                        " minima and " + std::to_string(max.size()) + " maxima");
  }
  if (!detail::is_kernel_float(arithmetic)) {
    fail(ErrorCode::unsupported, "params_from_range: arithmetic in " +
                                     std::string(to_string(arithmetic)) + " is not possible");
  }
  const bool quanto = scheme.rule == ScaleRule::quanto_absmax ||
                      scheme.rule == ScaleRule::quanto_shift ||
                      scheme.rule == ScaleRule::quanto_zeropoint;
  const bool symmetric =
      scheme.rule == ScaleRule::absmax || scheme.rule == ScaleRule::quanto_absmax;
  QuantParams params;
  params.scheme = scheme;
  params.block = block;
  params.arithmetic = quanto ? arithmetic : DType::float32;
  params.scale.reserve(min.size());
  for (std::size_t i = 0; i < min.size(); ++i) {
    const bool unseen = min[i] == kInfinity && max[i] == -kInfinity;
    if (!unseen && !(std::isfinite(min[i]) && std::isfinite(max[i]))) {
      fail(ErrorCode::not_finite, "params_from_range: the range " + number_text(min[i]) + ".." +
                                      number_text(max[i]) + block_text(i) + " is not finite");
    }
    if (!unseen && min[i] > max[i]) {
      fail(ErrorCode::invalid_argument, "params_from_range: the range " + number_text(min[i]) +
                                            ".." + number_text(max[i]) + block_text(i) +
                                            " is upside down");
    }
    const Choice choice = choose(min[i], max[i], scheme, arithmetic);
    params.scale.push_back(choice.scale.scale);
    if (!quanto) params.inv_scale.push_back(choice.scale.inv_scale);
    if (scheme.rule == ScaleRule::quanto_shift) {
      params.shift.push_back(choice.shift);
    } else if (!symmetric) {
      params.zero_point.push_back(choice.scale.zero_point);
    }
  }
  return params;
}

namespace {

void check_length(const char* what, std::size_t have, std::size_t want, bool optional,
                  const QuantParams& params, std::int64_t rows, std::int64_t cols) {
  if (have == want || (optional && have == 0)) return;
  fail(ErrorCode::shape_mismatch, std::string("the parameters have ") + std::to_string(have) + " " +
                                      what + ", a matrix " + detail::shape_text(rows, cols) +
                                      " in blocks of " +
                                      detail::shape_text(params.block.rows, params.block.cols) +
                                      " (0 = all) has " + std::to_string(want) + " blocks");
}

}  // namespace

void check_params(const QuantParams& params, std::int64_t rows, std::int64_t cols) {
  const detail::ScopedFloatEnvironment environment;
  const QuantScheme& scheme = params.scheme;
  check_scheme(scheme);
  if (params.block.rows < 0 || params.block.cols < 0) {
    fail(ErrorCode::invalid_argument, "the block shape " +
                                          detail::shape_text(params.block.rows, params.block.cols) +
                                          " is negative");
  }
  if (!detail::is_kernel_float(params.arithmetic)) {
    fail(ErrorCode::unsupported, "quantizing in " + std::string(to_string(params.arithmetic)) +
                                     " is not possible; float32, float16 and bfloat16 are");
  }
  const bool shifted = !params.shift.empty();
  if (shifted && !params.zero_point.empty()) {
    fail(ErrorCode::invalid_argument, "the parameters have both zero points and shifts");
  }
  if (rows != 0 && cols != 0) {
    const auto blocks = static_cast<std::size_t>(params.block.count_rows(rows)) *
                        static_cast<std::size_t>(params.block.count_cols(cols));
    check_length("scales", params.scale.size(), blocks, false, params, rows, cols);
    check_length("zero points", params.zero_point.size(), blocks, true, params, rows, cols);
    check_length("inverse scales", params.inv_scale.size(), blocks, true, params, rows, cols);
    check_length("shifts", params.shift.size(), blocks, true, params, rows, cols);
  }
  const bool reciprocal = params.order() != RoundOrder::divide && params.inv_scale.empty();
  for (std::size_t i = 0; i < params.scale.size(); ++i) {
    const float scale = params.scale[i];
    if (!std::isfinite(scale) || scale < 0 || (scale == 0 && !shifted)) {
      fail(ErrorCode::invalid_argument,
           "the scale " + number_text(scale) + block_text(i) + " is not a positive finite number");
    }
    if (reciprocal && !shifted && scale < kSmallestScale) {
      fail(ErrorCode::invalid_argument, "the scale " + number_text(scale) + block_text(i) +
                                            " has no finite reciprocal; " +
                                            number_text(kSmallestScale) + " is the smallest");
    }
  }
  for (std::size_t i = 0; i < params.inv_scale.size(); ++i) {
    if (!(params.inv_scale[i] > 0 && std::isfinite(params.inv_scale[i]))) {
      fail(ErrorCode::invalid_argument, "the inverse scale " + number_text(params.inv_scale[i]) +
                                            block_text(i) + " is not a positive finite number");
    }
  }
  for (std::size_t i = 0; i < params.zero_point.size(); ++i) {
    if (params.zero_point[i] < scheme.lowest || params.zero_point[i] > scheme.highest) {
      fail(ErrorCode::invalid_argument, "the zero point " + std::to_string(params.zero_point[i]) +
                                            block_text(i) + " is outside the code range " +
                                            std::to_string(scheme.lowest) + ".." +
                                            std::to_string(scheme.highest));
    }
  }
  for (std::size_t i = 0; i < params.shift.size(); ++i) {
    if (!std::isfinite(params.shift[i])) {
      fail(ErrorCode::invalid_argument,
           "the shift " + number_text(params.shift[i]) + block_text(i) + " is not finite");
    }
  }
}

}  // namespace kvant
