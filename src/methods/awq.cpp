#include "kvant/methods/awq.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "kvant/error.hpp"
#include "methods/group_range.hpp"
#include "methods/input_scales.hpp"

namespace kvant::methods {
namespace {

constexpr int kClipGrid = 20;
constexpr int kClipSteps = 10;
constexpr float kSmallestScale = 1e-4f;
constexpr float kSmallestMax = 1e-5f;

void check_inputs(const char* who, const std::vector<MatrixView<const float>>& layers,
                  std::int64_t features) {
  for (const MatrixView<const float>& w : layers) {
    if (w.cols() != features) {
      throw Error(ErrorCode::shape_mismatch, std::string(who) + ": a layer has " +
                                                 std::to_string(w.cols()) + " inputs, not " +
                                                 std::to_string(features));
    }
    check_finite(who, w);
  }
}

}  // namespace

std::vector<float> scales_for(const InputStatistics& statistics, double ratio) {
  std::vector<float> scales(static_cast<std::size_t>(statistics.features()));
  float least = INFINITY;
  float largest = 0;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const double mean = statistics.mean_abs(static_cast<std::int64_t>(i));
    scales[i] = std::max(static_cast<float>(std::pow(mean, ratio)), kSmallestScale);
    least = std::min(least, scales[i]);
    largest = std::max(largest, scales[i]);
  }
  const float middle = std::sqrt(least * largest);
  for (float& scale : scales) {
    scale /= middle;
    if (!std::isfinite(scale) || scale <= 0) scale = 1.0f;
  }
  return scales;
}

void round_scaled(const MatrixView<const float>& w, const std::vector<float>& scales,
                  const GroupScheme& scheme, std::vector<float>& out) {
  out.resize(static_cast<std::size_t>(w.rows() * w.cols()));
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      out[static_cast<std::size_t>(r * w.cols() + c)] =
          w(r, c) * scales[static_cast<std::size_t>(c)];
    }
  }
  const MatrixView<float> view(out.data(), w.rows(), w.cols());
  round_to_nearest(view, scheme).dequantize(view);
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      view(r, c) /= scales[static_cast<std::size_t>(c)];
    }
  }
}

ScaleSearch search_scales(Context& context, const std::vector<MatrixView<const float>>& layers,
                          const InputStatistics& statistics, const GramMatrix& gram,
                          const GroupScheme& scheme) {
  check_scheme("search_scales", scheme);
  check_inputs("search_scales", layers, statistics.features());
  const OutputError measure(context, gram);
  ScaleSearch best;
  std::vector<float> values;
  for (int step = 0; step < kScaleRatios; ++step) {
    const double ratio = static_cast<double>(step) / kScaleRatios;
    const std::vector<float> scales = scales_for(statistics, ratio);
    double error = 0;
    for (const MatrixView<const float>& w : layers) {
      round_scaled(w, scales, scheme, values);
      error += measure.sum(context, w, MatrixView<const float>(values.data(), w.rows(), w.cols()));
    }
    if (step == 0) best.error_before = error;
    if (step == 0 || error < best.error) {
      best.scales = scales;
      best.ratio = ratio;
      best.error = error;
    }
  }
  return best;
}

GroupCodes clip_and_round(MatrixView<const float> w, const GramMatrix& gram,
                          const GroupScheme& scheme) {
  check_scheme("clip_and_round", scheme);
  check_finite("clip_and_round", w);
  if (w.cols() != gram.features()) {
    throw Error(ErrorCode::shape_mismatch, "clip_and_round: w has " + std::to_string(w.cols()) +
                                               " inputs, the second moments are of " +
                                               std::to_string(gram.features()));
  }
  GroupCodes result = round_to_nearest(w, scheme);
  const std::int64_t size = scheme.group == 0 ? std::max<std::int64_t>(1, w.cols()) : scheme.group;
  const MatrixView<const float> sums = gram.sums();
  std::vector<double> clipped(static_cast<std::size_t>(std::min(size, w.cols())));
  std::vector<double> difference(clipped.size());
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t g = 0; g < result.groups; ++g) {
      const std::int64_t begin = g * size;
      const std::int64_t count = std::min(w.cols(), begin + size) - begin;
      const float* row = w.row_data(r) + begin;
      float absmax = 0;
      for (std::int64_t i = 0; i < count; ++i) absmax = std::max(absmax, std::fabs(row[i]));
      double best_error = INFINITY;
      GroupRange best;
      for (int step = 0; step < kClipSteps; ++step) {
        const double limit =
            static_cast<double>(absmax) * (1.0 - static_cast<double>(step) / kClipGrid);
        for (std::int64_t i = 0; i < count; ++i) {
          clipped[static_cast<std::size_t>(i)] =
              std::clamp(static_cast<double>(row[i]), -limit, limit);
        }
        const GroupRange range = range_of(clipped.data(), count, 1, scheme, RangeSearch::none);
        for (std::int64_t i = 0; i < count; ++i) {
          const double value = row[i];
          difference[static_cast<std::size_t>(i)] =
              value - range.value(range.code(value, scheme.highest()));
        }
        double error = 0;
        for (std::int64_t i = 0; i < count; ++i) {
          const float* moments = sums.row_data(begin + i) + begin;
          double sum = 0;
          for (std::int64_t j = 0; j < count; ++j) {
            sum += difference[static_cast<std::size_t>(j)] * static_cast<double>(moments[j]);
          }
          error += difference[static_cast<std::size_t>(i)] * sum;
        }
        if (error < best_error) {
          best_error = error;
          best = range;
        }
      }
      const auto at = static_cast<std::size_t>(r * result.groups + g);
      result.scales[at] = best.scale;
      result.zero_points[at] = static_cast<std::uint8_t>(best.zero);
      for (std::int64_t i = 0; i < count; ++i) {
        result.codes[static_cast<std::size_t>(r * w.cols() + begin + i)] =
            static_cast<std::uint8_t>(best.code(static_cast<double>(row[i]), scheme.highest()));
      }
    }
  }
  return result;
}

std::vector<float> smooth_scales(const std::vector<MatrixView<const float>>& layers,
                                 const InputStatistics& statistics, double alpha) {
  if (!(alpha >= 0 && alpha <= 1)) {
    throw Error(ErrorCode::invalid_argument,
                "smooth_scales: alpha is " + std::to_string(alpha) + ", not in [0, 1]");
  }
  check_inputs("smooth_scales", layers, statistics.features());
  std::vector<float> scales(static_cast<std::size_t>(statistics.features()));
  for (std::size_t c = 0; c < scales.size(); ++c) {
    float weight = kSmallestMax;
    for (const MatrixView<const float>& w : layers) {
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        weight = std::max(weight, std::fabs(w(r, static_cast<std::int64_t>(c))));
      }
    }
    const float input = std::max(statistics.absmax(static_cast<std::int64_t>(c)), kSmallestMax);
    scales[c] = std::max(static_cast<float>(std::pow(static_cast<double>(input), alpha) /
                                            std::pow(static_cast<double>(weight), 1.0 - alpha)),
                         kSmallestMax);
  }
  return scales;
}

}  // namespace kvant::methods
