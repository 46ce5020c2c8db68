#pragma once

/// @file
/// The scales and zero points of all blocks of a matrix (QuantParams), and the rules by which they
/// follow from the range of each block.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/finfo.hpp"
#include "kvant/float8.hpp"
#include "kvant/float_element.hpp"
#include "kvant/quant_scheme.hpp"
#include "kvant/quantize.hpp"
#include "kvant/round_order.hpp"

namespace kvant {

/// The parameters of all blocks of a matrix, row-major over the blocks. Made by choose_params or an
/// observer; or filled by hand: scheme, block and scale suffice.
struct QuantParams {
  QuantScheme scheme = int8_symmetric;
  BlockShape block = per_tensor;
  std::vector<float> scale;  ///< one per block, > 0 (a shift allows 0: a constant block)
  std::vector<std::int32_t> zero_point;  ///< one per block in the code range; empty: all 0
  /// What values are multiplied by, one per block; empty: 1 / scale. For absmax schemes it is
  /// highest / absmax, which is not always 1 / scale.
  std::vector<float> inv_scale;
  std::vector<float> shift;  ///< x = code * scale - shift; empty: none. Not with zero points.
  /// The type each operation rounds to: float32, or the half type of quanto's input.
  DType arithmetic = DType::float32;

  [[nodiscard]] std::size_t size() const noexcept { return scale.size(); }
  /// Bytes of scales, zero points and shifts, as a file would store them (4 each).
  [[nodiscard]] std::size_t bytes() const noexcept {
    return 4 * (scale.size() + zero_point.size() + shift.size());
  }
  /// The order of roundings: the scheme's for one or for many blocks.
  [[nodiscard]] RoundOrder order() const noexcept {
    return block == per_tensor ? scheme.tensor_order : scheme.block_order;
  }
};

namespace detail {

inline constexpr float kTorchEps = 0x1p-23f;

inline std::string block_text(std::size_t i) {
  return " of block " + std::to_string(i);
}

/// Symmetric, and within the type's finite values.
inline void check_float8_scheme(const QuantScheme& scheme) {
  const auto most = static_cast<std::int32_t>(float_info(scheme.dtype).max);
  if (scheme.highest < 1 || scheme.highest > most || scheme.lowest != -scheme.highest) {
    fail(ErrorCode::invalid_argument,
         "the range " + std::to_string(scheme.lowest) + ".." + std::to_string(scheme.highest) +
             " is not one of " + std::string(to_string(scheme.dtype)) +
             "; it must be symmetric and end at " + std::to_string(most) + " or before");
  }
  const auto highest = static_cast<float>(scheme.highest);
  const float held = scheme.dtype == DType::float8_e5m2
                         ? static_cast<float>(float8_e5m2(highest))
                         : static_cast<float>(float8_e4m3fn(highest));
  if (held != highest) {
    fail(ErrorCode::invalid_argument, std::to_string(scheme.highest) + " is no value of " +
                                          std::string(to_string(scheme.dtype)) + "; the next is " +
                                          number_text(static_cast<double>(held)));
  }
  if (scheme.rule != ScaleRule::absmax && scheme.rule != ScaleRule::quanto_absmax) {
    fail(ErrorCode::unsupported, "codes of type " + std::string(to_string(scheme.dtype)) +
                                     " have no zero point or shift: the rules absmax and "
                                     "quanto_absmax are possible");
  }
}

inline void check_scheme(const QuantScheme& scheme) {
  switch (scheme.dtype) {
    case DType::int8:
    case DType::uint8:
    case DType::int4:
    case DType::uint4:
    case DType::int2:
    case DType::uint2: break;
    case DType::float8_e4m3fn:
    case DType::float8_e5m2: return check_float8_scheme(scheme);
    default:
      fail(ErrorCode::unsupported,
           "codes of type " + std::string(to_string(scheme.dtype)) +
               " are not possible; int8, uint8, int4, uint4, int2, uint2, float8_e4m3fn and "
               "float8_e5m2 are");
  }
  const IntInfo limits = int_info(scheme.dtype);
  if (scheme.lowest >= scheme.highest || scheme.lowest < limits.min ||
      scheme.highest > static_cast<std::int64_t>(limits.max)) {
    fail(ErrorCode::invalid_argument,
         "the code range " + std::to_string(scheme.lowest) + ".." + std::to_string(scheme.highest) +
             " is not a range of " + std::string(to_string(scheme.dtype)) + " (" +
             std::to_string(limits.min) + ".." + std::to_string(limits.max) + ")");
  }
  const bool symmetric =
      scheme.rule == ScaleRule::absmax || scheme.rule == ScaleRule::quanto_absmax;
  if (symmetric && (scheme.highest < 1 || scheme.lowest > 0)) {
    fail(ErrorCode::invalid_argument,
         "a symmetric scheme needs a range with 0 and a highest code of 1 or more, not " +
             std::to_string(scheme.lowest) + ".." + std::to_string(scheme.highest));
  }
  if (scheme.rule == ScaleRule::torch_symmetric && (scheme.lowest > 0 || scheme.highest < 0)) {
    fail(ErrorCode::invalid_argument, "torch's symmetric schemes need a range with 0, not " +
                                          std::to_string(scheme.lowest) + ".." +
                                          std::to_string(scheme.highest));
  }
}

/// What stands for the range of a block that nothing was seen of.
constexpr bool is_unseen(float min, float max) noexcept {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  return min == kInfinity && max == -kInfinity;
}

/// What one block is quantized with; shift only under quanto_shift.
struct BlockChoice {
  ScaleChoice scale;
  float shift = 0;
};

inline BlockChoice choose_torch(float min, float max, const QuantScheme& scheme) {
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

inline BlockChoice choose_quanto(float min, float max, const QuantScheme& scheme, DType type) {
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

inline BlockChoice choose_scale(float min, float max, const QuantScheme& scheme, DType arithmetic) {
  if (is_unseen(min, max)) {
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

}  // namespace detail

/// Parameters from the smallest and largest value of each block. NaN or infinite ends and, in
/// torch's fp32 rules, a range that overflows are errors; min = +inf, max = -inf stands for "never
/// observed" (scale 1, zero point 0 or the end of the range next to it).
/// @param arithmetic  the type of the values; only the quanto rules look at it
/// @throws Error not_finite, invalid_argument (min > max, a broken scheme), shape_mismatch
[[nodiscard]] inline QuantParams params_from_range(const std::vector<float>& min,
                                                   const std::vector<float>& max,
                                                   const QuantScheme& scheme, BlockShape block,
                                                   DType arithmetic = DType::float32) {
  using detail::block_text, detail::fail, detail::number_text;
  const detail::ScopedFloatEnvironment environment;
  detail::check_scheme(scheme);
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
    const bool unseen = detail::is_unseen(min[i], max[i]);
    if (!unseen && !(std::isfinite(min[i]) && std::isfinite(max[i]))) {
      fail(ErrorCode::not_finite, "params_from_range: the range " + number_text(min[i]) + ".." +
                                      number_text(max[i]) + block_text(i) + " is not finite");
    }
    if (!unseen && min[i] > max[i]) {
      fail(ErrorCode::invalid_argument, "params_from_range: the range " + number_text(min[i]) +
                                            ".." + number_text(max[i]) + block_text(i) +
                                            " is upside down");
    }
    const detail::BlockChoice choice = detail::choose_scale(min[i], max[i], scheme, arithmetic);
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

namespace detail {

inline void check_length(const char* what, std::size_t have, std::size_t want, bool optional,
                         const QuantParams& params, std::int64_t rows, std::int64_t cols) {
  if (have == want || (optional && have == 0)) return;
  fail(ErrorCode::shape_mismatch, std::string("the parameters have ") + std::to_string(have) + " " +
                                      what + ", a matrix " + detail::shape_text(rows, cols) +
                                      " in blocks of " +
                                      detail::shape_text(params.block.rows, params.block.cols) +
                                      " (0 = all) has " + std::to_string(want) + " blocks");
}

}  // namespace detail

/// Checks parameters against a matrix: number of blocks, lengths, code range, scales > 0 and
/// finite, zero points in the code range.
/// @throws Error shape_mismatch, invalid_argument, unsupported
inline void check_params(const QuantParams& params, std::int64_t rows, std::int64_t cols) {
  using detail::block_text, detail::check_length, detail::fail, detail::number_text;
  const detail::ScopedFloatEnvironment environment;
  const QuantScheme& scheme = params.scheme;
  detail::check_scheme(scheme);
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
  if (params.zero_point.empty() && !shifted && (scheme.lowest > 0 || scheme.highest < 0)) {
    fail(ErrorCode::invalid_argument,
         "without zero points the code of 0 is 0, which is outside the code range " +
             std::to_string(scheme.lowest) + ".." + std::to_string(scheme.highest));
  }
  for (std::size_t i = 0; i < params.shift.size(); ++i) {
    if (!std::isfinite(params.shift[i])) {
      fail(ErrorCode::invalid_argument,
           "the shift " + number_text(params.shift[i]) + block_text(i) + " is not finite");
    }
  }
}

}  // namespace kvant
