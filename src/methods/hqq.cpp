#include "kvant/methods/hqq.hpp"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/float_element.hpp"
#include "kvant/linear_quantizer.hpp"
#include "methods/group_range.hpp"
#include "methods/shrink.hpp"

namespace kvant::methods {
namespace {

void check_options(const HqqOptions& options) {
  const auto refuse = [](const char* name, double value, const char* range) {
    throw Error(ErrorCode::invalid_argument, "hqq_params: " + std::string(name) + " is " +
                                                 std::to_string(value) + ", not " + range);
  };
  if (!(options.norm > 0 && options.norm <= 1)) refuse("norm", options.norm, "in (0, 1]");
  if (!(options.beta > 0)) refuse("beta", options.beta, "above 0");
  if (!(options.kappa >= 1)) refuse("kappa", options.kappa, "1 or more");
  if (options.iterations < 0) {
    throw Error(ErrorCode::invalid_argument,
                "hqq_params: " + std::to_string(options.iterations) + " iterations");
  }
}

/// The number of the block that each element is in, along rows and along columns.
struct Blocks {
  explicit Blocks(MatrixView<const float> w, BlockShape block)
      : rows(block.rows == 0 ? std::max<std::int64_t>(1, w.rows()) : block.rows),
        cols(block.cols == 0 ? std::max<std::int64_t>(1, w.cols()) : block.cols),
        across(block.count_cols(w.cols())) {}
  [[nodiscard]] std::size_t at(std::int64_t r, std::int64_t c) const noexcept {
    return static_cast<std::size_t>(r / rows * across + c / cols);
  }
  std::int64_t rows, cols, across;
};

double mean_error(MatrixView<const float> w, MatrixView<const float> rounded) {
  double sum = 0;
  for (std::int64_t r = 0; r < w.rows(); ++r) {
    for (std::int64_t c = 0; c < w.cols(); ++c) {
      sum += std::fabs(static_cast<double>(w(r, c)) - static_cast<double>(rounded(r, c)));
    }
  }
  return sum / static_cast<double>(w.size());
}

}  // namespace

QuantParams hqq_params(Context& context, MatrixView<const float> w, QuantParams best,
                       const HqqOptions& options) {
  check_options(options);
  check_finite("hqq_params", w);
  if (best.shift.empty() && w.size() > 0) {
    throw Error(ErrorCode::invalid_argument,
                "hqq_params: parameters of " + std::string(best.scheme.name) +
                    " have no shifts to move; quanto_qint4 and quanto_qint2 have");
  }
  if (w.size() == 0) return best;
  const Blocks blocks(w, best.block);
  std::vector<double> sums(best.shift.size());
  std::vector<double> counts(best.shift.size());
  Matrix<float> rounded(w.rows(), w.cols());
  fake_quantize(context, w, best, AnyMatrix(rounded));
  double least = mean_error(w, rounded);
  double beta = options.beta;
  QuantParams next = best;
  for (int step = 0; step < options.iterations; ++step) {
    std::fill(sums.begin(), sums.end(), 0.0);
    std::fill(counts.begin(), counts.end(), 0.0);
    for (std::int64_t r = 0; r < w.rows(); ++r) {
      for (std::int64_t c = 0; c < w.cols(); ++c) {
        const std::size_t at = blocks.at(r, c);
        const double value = w(r, c);
        const double code_value = static_cast<double>(rounded(r, c)) + next.shift[at];
        const double outlier = shrunk(value - rounded(r, c), options.norm, beta);
        sums[at] += code_value - (value - outlier);
        counts[at] += 1;
      }
    }
    for (std::size_t i = 0; i < sums.size(); ++i) {
      next.shift[i] = detail::round_to(best.arithmetic, static_cast<float>(sums[i] / counts[i]));
    }
    fake_quantize(context, w, next, AnyMatrix(rounded));
    const double error = mean_error(w, rounded);
    if (!(error < least)) break;
    least = error;
    best.shift = next.shift;
    beta *= options.kappa;
  }
  return best;
}

}  // namespace kvant::methods
