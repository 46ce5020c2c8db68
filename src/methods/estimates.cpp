#include "kvant/methods/estimates.hpp"

#define EIGEN_DONT_PARALLELIZE
#include <Eigen/Cholesky>
#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <string>

#include "kvant/error.hpp"
#include "kvant/methods/awq.hpp"
#include "methods/group_range.hpp"
#include "methods/input_scales.hpp"
#include "methods/row_model.hpp"

namespace kvant::methods {
namespace {

constexpr double kUnknown = std::numeric_limits<double>::quiet_NaN();
constexpr double kStepShare = 1.0 / (127.0 * 127.0 * 12.0);  ///< error's power of int8, absmax 1

double decibels(double signal, double noise) {
  return signal > 0 && noise > 0 ? 10 * std::log10(signal / noise) : kUnknown;
}

/// The weights that read the input, summed up by features and outputs.
struct WeightSums {
  WeightSums(const std::vector<MatrixView<const float>>& layers, std::size_t features,
             const std::vector<float>& scales)
      : columns(features) {
    for (const MatrixView<const float>& w : layers) {
      for (std::int64_t r = 0; r < w.rows(); ++r) {
        const float* const row = w.row_data(r);
        double absmax = 0;
        double scaled = 0;
        for (std::size_t c = 0; c < features; ++c) {
          const double value = std::fabs(static_cast<double>(row[c]));
          columns[c] += value * value;
          absmax = std::max(absmax, value);
          if (!scales.empty()) scaled = std::max(scaled, value * static_cast<double>(scales[c]));
        }
        steps += kStepShare * absmax * absmax;
        scaled_steps += kStepShare * scaled * scaled;
      }
    }
  }
  std::vector<double> columns;  ///< sums of squares
  double steps = 0;             ///< error's power of int8 weights, over a column of outputs
  double scaled_steps = 0;      ///< the same of weights times the scales
};

/// Error over power of the outputs, the mean over rows: int8 of both.
/// @param scales  of inputs (SmoothQuant); empty: none
/// @param apart   outliers are multiplied in floating point
double int8_noise(const RowModel& rows, const WeightSums& weights, const std::vector<float>& scales,
                  double scaled_largest, bool apart) {
  const auto scale = [&](std::size_t i) {
    return scales.empty() ? 1.0 : static_cast<double>(scales[i]);
  };
  std::vector<bool> left_out(weights.columns.size());
  for (const OutlierLevel& outlier : rows.outliers) left_out[outlier.feature] = apart;
  double signal = 0;     // of a row without outliers
  double spread = 0;     // what a step of activations meets: weights
  double magnitude = 0;  // what a step of weights meets: activations
  for (std::size_t i = 0; i < weights.columns.size(); ++i) {
    signal += rows.power[i] * weights.columns[i];
    if (left_out[i]) continue;
    spread += weights.columns[i] * scale(i) * scale(i);
    magnitude += rows.power[i] / (scale(i) * scale(i));
  }
  const double steps = scales.empty() ? weights.steps : weights.scaled_steps;
  double absmax = scales.empty() ? rows.largest : scaled_largest;
  double sum = 0;
  // From the rows that have no outlier to those that have all of them.
  for (std::size_t n = 0; n <= rows.outliers.size(); ++n) {
    const double from = n == rows.outliers.size() ? 0.0 : rows.outliers[n].share;
    const double to = n == 0 ? 1.0 : rows.outliers[n - 1].share;
    if (n > 0) {
      const OutlierLevel& added = rows.outliers[n - 1];
      const double size = added.size / scale(added.feature);
      signal += added.size * added.size * weights.columns[added.feature];
      if (!apart) {
        absmax = std::max(absmax, size);
        magnitude += size * size;
      }
    }
    if (!(to > from) || !(signal > 0)) continue;
    sum += (to - from) * (kStepShare * absmax * absmax * spread + steps * magnitude) / signal;
  }
  return sum;
}

/// The largest element of a row without outliers, each feature divided by its scale.
double scaled_largest(const RowModel& rows, const InputStatistics& statistics,
                      const std::vector<float>& scales) {
  double reach = 0;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const float absmax =
        std::min(statistics.absmax(static_cast<std::int64_t>(i)), statistics.threshold);
    reach = std::max(reach, static_cast<double>(absmax) / static_cast<double>(scales[i]));
  }
  return reach * rows.largest_share;
}

void estimate_int8(const std::vector<MatrixView<const float>>& layers,
                   const InputStatistics& statistics, const RowModel& rows,
                   const EstimateOptions& options, MethodEstimates& result) {
  std::vector<float> scales;
  if (options.smoothquant) scales = smooth_scales(layers, statistics, options.alpha);
  const WeightSums weights(layers, static_cast<std::size_t>(statistics.features()), scales);
  result.int8 = decibels(1, int8_noise(rows, weights, {}, 0, false));
  result.llm_int8 = decibels(1, int8_noise(rows, weights, {}, 0, true));
  if (scales.empty()) return;
  result.smoothquant = decibels(
      1, int8_noise(rows, weights, scales, scaled_largest(rows, statistics, scales), false));
}

/// Some outputs of all layers, evenly spread.
std::vector<float> sample(const std::vector<MatrixView<const float>>& layers, std::int64_t wanted) {
  std::int64_t all = 0;
  for (const MatrixView<const float>& w : layers) all += w.rows();
  const std::int64_t count = std::min(all, std::max<std::int64_t>(1, wanted));
  std::vector<float> result;
  std::int64_t before = 0;
  std::int64_t next = 0;
  for (const MatrixView<const float>& w : layers) {
    for (; next < count; ++next) {
      const std::int64_t row = next * all / count - before;
      if (row >= w.rows()) break;
      result.insert(result.end(), w.row_data(row), w.row_data(row) + w.cols());
    }
    before += w.rows();
  }
  return result;
}

/// Of each feature's second moment, what the features that GPTQ takes behind it (act order) cannot
/// make up for: its variance given theirs. Empty where the matrix is singular however much is
/// added to its diagonal.
std::vector<double> moments_left(const GramMatrix& gram, double damp) {
  using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
  const MatrixView<const float> sums = gram.sums();
  const std::int64_t k = gram.features();
  std::vector<std::int64_t> order(static_cast<std::size_t>(k));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  // The last one taken comes first: a Cholesky factor's diagonal is what those before it leave.
  std::stable_sort(order.begin(), order.end(),
                   [&](std::int64_t a, std::int64_t b) { return sums(a, a) < sums(b, b); });
  double mean = 0;
  for (std::int64_t i = 0; i < k; ++i) mean += static_cast<double>(sums(i, i));
  mean /= static_cast<double>(std::max<std::int64_t>(1, k));
  Matrix h(k, k);
  for (int attempt = 0; attempt < 7; ++attempt, damp = std::max(damp, 1e-3) * 10) {
    for (std::int64_t j = 0; j < k; ++j) {
      const std::int64_t from = order[static_cast<std::size_t>(j)];
      for (std::int64_t i = j; i < k; ++i) {
        h(i, j) = static_cast<double>(sums(order[static_cast<std::size_t>(i)], from));
      }
      h(j, j) += damp * mean;
    }
    const Eigen::LLT<Eigen::Ref<Matrix>> factor(h);  // in place
    if (factor.info() != Eigen::Success) continue;
    std::vector<double> result(static_cast<std::size_t>(k));
    for (std::int64_t i = 0; i < k; ++i) {
      const std::int64_t feature = order[static_cast<std::size_t>(i)];
      result[static_cast<std::size_t>(feature)] =
          std::min(h(i, i) * h(i, i), static_cast<double>(sums(feature, feature)));
    }
    return result;
  }
  return {};
}

void estimate_four_bits(Context& context, const std::vector<MatrixView<const float>>& layers,
                        const InputStatistics& statistics, const RowModel& rows,
                        const GramMatrix* moments, const EstimateOptions& options,
                        MethodEstimates& result) {
  const std::vector<float> values = sample(layers, options.rows);
  const std::int64_t features = statistics.features();
  const auto size = static_cast<std::size_t>(features);
  const MatrixView<const float> w(values.data(), static_cast<std::int64_t>(values.size() / size),
                                  features);
  // Second moments, per row.
  std::vector<double> power = rows.power;
  for (const OutlierLevel& outlier : rows.outliers) {
    double& own = power[outlier.feature];
    own = (1 - outlier.share) * own + outlier.share * outlier.size * outlier.size;
  }
  double signal = 0;
  if (moments != nullptr) {
    for (std::size_t i = 0; i < size; ++i) {
      const auto at = static_cast<std::int64_t>(i);
      power[i] =
          static_cast<double>(moments->sums()(at, at)) / static_cast<double>(moments->rows());
    }
    signal =
        OutputError(context, *moments).sum(context, w, {}) / static_cast<double>(moments->rows());
  }
  std::vector<float> rounded;
  std::vector<double> errors(size);
  const auto round = [&](double ratio) {  // power of the error
    const std::vector<float> scales = scales_for(statistics, ratio);
    round_scaled(w, scales, options.scheme, rounded);
    std::fill(errors.begin(), errors.end(), 0.0);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const double difference = static_cast<double>(values[i]) - static_cast<double>(rounded[i]);
      errors[i % size] += difference * difference;
    }
    return std::inner_product(errors.begin(), errors.end(), power.begin(), 0.0);
  };
  double best = std::numeric_limits<double>::infinity();
  for (int step = 1; options.awq && step < kScaleRatios; ++step) {
    best = std::min(best, round(static_cast<double>(step) / kScaleRatios));
  }
  const double plain = round(0);
  if (moments == nullptr) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      signal += power[i % size] * static_cast<double>(values[i]) * static_cast<double>(values[i]);
    }
  }
  result.nearest = decibels(signal, plain);
  if (options.awq) result.awq = decibels(signal, std::min(best, plain));
  if (moments == nullptr) return;
  const std::vector<double> left = moments_left(*moments, options.damp);
  if (left.empty()) return;
  result.gptq =
      decibels(signal, std::inner_product(errors.begin(), errors.end(), left.begin(), 0.0) /
                           static_cast<double>(moments->rows()));
}

}  // namespace

MethodEstimates estimate_methods(Context& context,
                                 const std::vector<MatrixView<const float>>& layers,
                                 const InputStatistics& statistics, const GramMatrix* moments,
                                 const EstimateOptions& options) {
  constexpr const char* kWho = "estimate_methods";
  check_scheme(kWho, options.scheme);
  if (!(options.damp >= 0) || std::isinf(options.damp)) {
    throw Error(ErrorCode::invalid_argument, std::string(kWho) + ": damp is " +
                                                 std::to_string(options.damp) +
                                                 ", not a number from 0 up");
  }
  std::int64_t outputs = 0;
  for (const MatrixView<const float>& w : layers) {
    if (w.cols() != statistics.features()) {
      throw Error(ErrorCode::shape_mismatch, std::string(kWho) + ": a layer has " +
                                                 std::to_string(w.cols()) + " inputs, not " +
                                                 std::to_string(statistics.features()));
    }
    check_finite(kWho, w);
    outputs += w.rows();
  }
  if (moments != nullptr && moments->features() != statistics.features()) {
    throw Error(ErrorCode::shape_mismatch,
                std::string(kWho) + ": second moments of " + std::to_string(moments->features()) +
                    " features, not " + std::to_string(statistics.features()));
  }
  MethodEstimates result{kUnknown, kUnknown, kUnknown, kUnknown, kUnknown, kUnknown};
  if (statistics.rows == 0 || statistics.features() == 0 || outputs == 0) return result;
  if (moments != nullptr && moments->rows() == 0) moments = nullptr;
  const RowModel rows(statistics);
  estimate_int8(layers, statistics, rows, options, result);
  estimate_four_bits(context, layers, statistics, rows, moments, options, result);
  return result;
}

}  // namespace kvant::methods
