#include "kvant/error_metrics.hpp"

#include <cmath>
#include <limits>
#include <string>

#include "ops/round_to.hpp"
#include "ops/validate.hpp"

namespace kvant {

namespace {

double element(const ConstAnyMatrix& m, std::int64_t i) noexcept {
  switch (m.dtype) {
    case DType::float64:
      return static_cast<const double*>(m.data)[i];
    case DType::float16:
      return static_cast<double>(static_cast<float>(static_cast<const float16*>(m.data)[i]));
    case DType::bfloat16:
      return static_cast<double>(static_cast<float>(static_cast<const bfloat16*>(m.data)[i]));
    default:
      return static_cast<double>(static_cast<const float*>(m.data)[i]);
  }
}

}  // namespace

ErrorMetrics compare(ConstAnyMatrix reference, ConstAnyMatrix approximation) {
  for (const ConstAnyMatrix* m : {&reference, &approximation}) {
    const char* what = m == &reference ? "the reference" : "the approximation";
    if (m->dtype == DType::float64) {
      detail::check_readable("compare", what, *m);
    } else {
      detail::check_float("compare", what, *m);
    }
  }
  if (reference.rows != approximation.rows || reference.cols != approximation.cols) {
    detail::fail(ErrorCode::shape_mismatch,
                 "compare: the reference is " + detail::shape_text(reference.rows, reference.cols) +
                     ", the approximation " +
                     detail::shape_text(approximation.rows, approximation.cols));
  }
  ErrorMetrics metrics;
  metrics.count = reference.rows * reference.cols;
  metrics.sqnr_db = std::numeric_limits<double>::infinity();
  if (metrics.count == 0) return metrics;
  double sum = 0;
  double squares = 0;
  double signal = 0;
  double other = 0;
  double product = 0;
  bool nan = false;
  for (std::int64_t r = 0; r < reference.rows; ++r) {
    for (std::int64_t c = 0; c < reference.cols; ++c) {
      const double a = element(reference, r * reference.stride + c);
      const double b = element(approximation, r * approximation.stride + c);
      const double error = a == b ? 0 : std::abs(a - b);  // equal infinities agree
      nan = nan || std::isnan(error);
      metrics.max = std::max(metrics.max, error);
      sum += error;
      squares += error * error;
      signal += a * a;
      other += b * b;
      product += a * b;
    }
  }
  if (nan) {
    const double value = std::numeric_limits<double>::quiet_NaN();
    return {metrics.count, value, value, value, value, value};
  }
  const auto count = static_cast<double>(metrics.count);
  metrics.mean = sum / count;
  metrics.mse = squares / count;
  if (squares > 0) metrics.sqnr_db = 10 * std::log10(signal / squares);
  if (signal > 0 || other > 0) {
    const double norms = std::sqrt(signal) * std::sqrt(other);
    metrics.cosine = norms > 0 ? product / norms : 0;
  }
  return metrics;
}

std::string to_string(const ErrorMetrics& m) {
  const auto text = [](double value) { return detail::number_text(value); };
  return "max " + text(m.max) + ", mean " + text(m.mean) + ", mse " + text(m.mse) + ", sqnr " +
         text(m.sqnr_db) + " dB, cosine " + text(m.cosine);
}

}  // namespace kvant
