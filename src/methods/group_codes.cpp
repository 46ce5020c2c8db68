#include "kvant/methods/group_codes.hpp"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>

#include "kvant/error.hpp"
#include "kvant/float16.hpp"
#include "methods/group_range.hpp"
#include "methods/shrink.hpp"

namespace kvant::methods {
namespace {

constexpr double kSearchNorm = 2.4;
constexpr int kSearchGrid = 100;
constexpr int kSearchSteps = 80;
constexpr double kHqqNorm = 0.7;

float stored(double scale, const GroupScheme& scheme) noexcept {
  auto result = static_cast<float>(scale);
  if (scheme.scale_type == DType::float16) {
    // The smallest and largest that fp16 holds bound it, so that no code is lost to 0 or infinity.
    result = static_cast<float>(float16(std::clamp(result, 0x1p-24f, 65504.0f)));
  } else if (scheme.scale_type == DType::bfloat16) {
    result = static_cast<float>(bfloat16(result));
  }
  return result > 0.0f ? result : 0x1p-126f;
}

GroupRange range_from(double least, double largest, const GroupScheme& scheme) noexcept {
  const int highest = scheme.highest();
  const std::int32_t middle = (highest + 1) / 2;
  least = std::min(least, 0.0);
  largest = std::max(largest, 0.0);
  const double absmax = std::max(-least, largest);
  if (absmax == 0.0) return {1.0f, middle};
  if (scheme.symmetric) return {stored(2.0 * absmax / highest, scheme), middle};
  const float scale = stored((largest - least) / highest, scheme);
  const double zero = std::nearbyint(-least / static_cast<double>(scale));
  return {scale, static_cast<std::int32_t>(std::clamp(zero, 0.0, static_cast<double>(highest)))};
}

double error_of(const double* w, std::int64_t count, std::int64_t step, const GroupRange& range,
                int highest, double norm) noexcept {
  double error = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double value = w[i * step];
    error += std::pow(std::fabs(value - range.value(range.code(value, highest))), norm);
  }
  return error;
}

/// GPTQ's grid: both ends shrunk together.
GroupRange least_error(const double* w, std::int64_t count, std::int64_t step, double least,
                       double largest, const GroupScheme& scheme) noexcept {
  GroupRange best = range_from(least, largest, scheme);
  double best_error = error_of(w, count, step, best, scheme.highest(), kSearchNorm);
  for (int i = 1; i < kSearchSteps; ++i) {
    const double share = 1.0 - static_cast<double>(i) / kSearchGrid;
    const GroupRange range = range_from(least * share, largest * share, scheme);
    const double error = error_of(w, count, step, range, scheme.highest(), kSearchNorm);
    if (error < best_error) {
      best = range;
      best_error = error;
    }
  }
  return best;
}

/// HQQ's half-quadratic steps (mobiusml.github.io/hqq_blog): the error is shrunk towards sparsity,
/// the zero point is the mean of what remains. Zero points are real numbers there (hqq.cpp) and
/// codes here, so the two codes around the best one are tried.
GroupRange half_quadratic(const double* w, std::int64_t count, std::int64_t step,
                          const GroupRange& start, const GroupScheme& scheme) noexcept {
  constexpr int kIterations = 20;
  double beta = 10.0;
  double zero = start.zero;
  const auto scale = static_cast<double>(start.scale);
  const int highest = scheme.highest();
  double last_error = 1e300;
  for (int iteration = 0; iteration < kIterations; ++iteration) {
    double sum = 0;
    double error_sum = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const double value = w[i * step];
      const double code =
          std::clamp(std::nearbyint(value / scale + zero), 0.0, static_cast<double>(highest));
      const double error = value - (code - zero) * scale;
      error_sum += std::fabs(error);
      sum += code - (value - shrunk(error, kHqqNorm, beta)) / scale;
    }
    if (error_sum >= last_error) break;
    last_error = error_sum;
    zero = sum / static_cast<double>(count);
    beta *= 1.01;
  }
  GroupRange best = start;
  double best_error = error_of(w, count, step, best, highest, kHqqNorm);
  for (const double rounded : {std::floor(zero), std::ceil(zero)}) {
    const GroupRange range{start.scale, static_cast<std::int32_t>(std::clamp(
                                            rounded, 0.0, static_cast<double>(highest)))};
    const double error = error_of(w, count, step, range, highest, kHqqNorm);
    if (error < best_error) {
      best = range;
      best_error = error;
    }
  }
  return best;
}

}  // namespace

std::int32_t GroupRange::code(double w, int highest) const noexcept {
  // In fp32, as the formats round: the largest weight of a symmetric group lies between two codes,
  // and a scale that was rounded must not decide which.
  const float code = std::nearbyint(static_cast<float>(w) / scale) + static_cast<float>(zero);
  return static_cast<std::int32_t>(std::clamp(code, 0.0f, static_cast<float>(highest)));
}

GroupRange range_of(const double* w, std::int64_t count, std::int64_t step,
                    const GroupScheme& scheme, RangeSearch search) noexcept {
  double least = 0;
  double largest = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    least = std::min(least, w[i * step]);
    largest = std::max(largest, w[i * step]);
  }
  if (search == RangeSearch::mse) return least_error(w, count, step, least, largest, scheme);
  const GroupRange range = range_from(least, largest, scheme);
  if (search == RangeSearch::hqq && !scheme.symmetric) {
    return half_quadratic(w, count, step, range, scheme);
  }
  return range;
}

void check_scheme(const char* who, const GroupScheme& scheme) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, std::string(who) + ": " + what);
  };
  if (scheme.bits != 2 && scheme.bits != 3 && scheme.bits != 4 && scheme.bits != 8) {
    refuse(std::to_string(scheme.bits) + " bits; 2, 3, 4 and 8 are possible");
  }
  if (scheme.group < 0) {
    refuse("groups of " + std::to_string(scheme.group) + " inputs; 0 means all of an output");
  }
  if (scheme.scale_type != DType::float16 && scheme.scale_type != DType::bfloat16 &&
      scheme.scale_type != DType::float32) {
    refuse("scales are float32, float16 or bfloat16");
  }
}

void check_finite(const char* who, MatrixView<const float> w) {
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      if (std::isfinite(w(r, c))) continue;
      throw Error(ErrorCode::not_finite, std::string(who) + ": element (" + std::to_string(r) +
                                             ", " + std::to_string(c) + ") is " +
                                             (std::isnan(w(r, c)) ? "NaN" : "infinite"));
    }
  }
}

void GroupCodes::dequantize(MatrixView<float> w) const {
  if (w.rows() != outputs || w.cols() != inputs) {
    throw Error(ErrorCode::shape_mismatch,
                "GroupCodes::dequantize: w is [" + std::to_string(w.rows()) + ", " +
                    std::to_string(w.cols()) + "], the codes are [" + std::to_string(outputs) +
                    ", " + std::to_string(inputs) + "]");
  }
  for (std::int64_t r = 0; r < outputs; ++r) {
    for (std::int64_t c = 0; c < inputs; ++c) {
      const auto at = static_cast<std::size_t>(r * groups + group_of[static_cast<std::size_t>(c)]);
      const int code = codes[static_cast<std::size_t>(r * inputs + c)];
      w(r, c) = static_cast<float>(code - zero_points[at]) * scales[at];
    }
  }
}

GroupCodes round_to_nearest(MatrixView<const float> w, const GroupScheme& scheme,
                            RangeSearch search) {
  check_scheme("round_to_nearest", scheme);
  check_finite("round_to_nearest", w);
  GroupCodes result;
  result.outputs = w.rows();
  result.inputs = w.cols();
  result.groups = scheme.groups(w.cols());
  result.codes.resize(static_cast<std::size_t>(w.rows() * w.cols()));
  result.scales.resize(static_cast<std::size_t>(w.rows() * result.groups));
  result.zero_points.resize(result.scales.size());
  result.group_of.resize(static_cast<std::size_t>(w.cols()));
  const std::int64_t size = scheme.group == 0 ? std::max<std::int64_t>(1, w.cols()) : scheme.group;
  for (std::int64_t c = 0; c < w.cols(); ++c) {
    result.group_of[static_cast<std::size_t>(c)] = static_cast<std::int32_t>(c / size);
  }
  std::vector<double> row(static_cast<std::size_t>(w.cols()));
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    std::copy_n(w.row_data(r), w.cols(), row.begin());
    for (std::int64_t g = 0; g < result.groups; ++g) {
      const std::int64_t begin = g * size;
      const std::int64_t end = std::min(w.cols(), begin + size);
      const GroupRange range = range_of(row.data() + begin, end - begin, 1, scheme, search);
      const auto at = static_cast<std::size_t>(r * result.groups + g);
      result.scales[at] = range.scale;
      result.zero_points[at] = static_cast<std::uint8_t>(range.zero);
      for (std::int64_t c = begin; c < end; ++c) {
        result.codes[static_cast<std::size_t>(r * w.cols() + c)] = static_cast<std::uint8_t>(
            range.code(row[static_cast<std::size_t>(c)], scheme.highest()));
      }
    }
  }
  return result;
}

}  // namespace kvant::methods
