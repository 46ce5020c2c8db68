#include "kvant/error_metrics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

#include "ops/support/float_environment.hpp"
#include "ops/support/number_text.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

namespace {

void check(const ConstAnyMatrix& reference, const ConstAnyMatrix& approximation) {
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
}

/// Calls f with a typed pointer to the elements.
template <class F>
void visit_elements(const ConstAnyMatrix& m, F&& f) {
  switch (m.dtype) {
    case DType::float64: return f(static_cast<const double*>(m.data));
    case DType::float16: return f(static_cast<const float16*>(m.data));
    case DType::bfloat16: return f(static_cast<const bfloat16*>(m.data));
    default: return f(static_cast<const float*>(m.data));
  }
}

template <class T>
double widen(T value) noexcept {
  if constexpr (std::is_same_v<T, double>) {
    return value;
  } else {
    return static_cast<double>(static_cast<float>(value));
  }
}

}  // namespace

void ErrorAccumulator::add(ConstAnyMatrix reference, ConstAnyMatrix approximation) {
  const detail::ScopedFloatEnvironment environment;
  check(reference, approximation);
  count_ += reference.rows * reference.cols;
  visit_elements(reference, [&](const auto* a_data) {
    visit_elements(approximation, [&](const auto* b_data) {
      for (std::int64_t r = 0; r < reference.rows; ++r) {
        const auto* a_row = a_data + r * reference.stride;
        const auto* b_row = b_data + r * approximation.stride;
        for (std::int64_t c = 0; c < reference.cols; ++c) {
          const double a = widen(a_row[c]);
          const double b = widen(b_row[c]);
          const double error = a == b ? 0 : std::abs(a - b);  // equal infinities agree
          nan_ = nan_ || std::isnan(error);
          max_ = std::max(max_, error);
          sum_ += error;
          squares_ += error * error;
          signal_ += a * a;
          other_ += b * b;
          product_ += a * b;
        }
      }
    });
  });
}

void ErrorAccumulator::add(const ErrorAccumulator& other) noexcept {
  count_ += other.count_;
  nan_ = nan_ || other.nan_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  squares_ += other.squares_;
  signal_ += other.signal_;
  other_ += other.other_;
  product_ += other.product_;
}

ErrorMetrics ErrorAccumulator::metrics() const noexcept {
  const detail::ScopedFloatEnvironment environment;
  ErrorMetrics metrics;
  metrics.count = count_;
  metrics.sqnr_db = std::numeric_limits<double>::infinity();
  if (count_ == 0) return metrics;
  if (nan_) {
    const double value = std::numeric_limits<double>::quiet_NaN();
    return {count_, value, value, value, value, value};
  }
  const auto count = static_cast<double>(count_);
  metrics.max = max_;
  metrics.mean = sum_ / count;
  metrics.mse = squares_ / count;
  if (squares_ > 0) metrics.sqnr_db = 10 * std::log10(signal_ / squares_);
  if (signal_ > 0 || other_ > 0) {
    const double norms = std::sqrt(signal_) * std::sqrt(other_);
    metrics.cosine = norms > 0 ? product_ / norms : 0;
  }
  return metrics;
}

ErrorMetrics compare(ConstAnyMatrix reference, ConstAnyMatrix approximation) {
  const detail::ScopedFloatEnvironment environment;
  ErrorAccumulator accumulator;
  accumulator.add(reference, approximation);
  return accumulator.metrics();
}

std::string to_string(const ErrorMetrics& m) {
  const auto text = [](double value) { return detail::number_text(value); };
  return "max " + text(m.max) + ", mean " + text(m.mean) + ", mse " + text(m.mse) + ", sqnr " +
         text(m.sqnr_db) + " dB, cosine " + text(m.cosine);
}

}  // namespace kvant
