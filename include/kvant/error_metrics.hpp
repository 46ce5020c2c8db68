#pragma once

/// @file
/// How far one matrix is from another.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/float16.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quantize.hpp"

namespace kvant {

namespace detail {

inline void check_comparison(const ConstAnyMatrix& reference, const ConstAnyMatrix& approximation) {
  for (const ConstAnyMatrix* m : {&reference, &approximation}) {
    const char* what = m == &reference ? "the reference" : "the approximation";
    if (m->dtype == DType::float64) {
      check_readable("compare", what, *m);
    } else {
      check_float("compare", what, *m);
    }
  }
  if (reference.rows != approximation.rows || reference.cols != approximation.cols) {
    fail(ErrorCode::shape_mismatch,
         "compare: the reference is " + shape_text(reference.rows, reference.cols) +
             ", the approximation " + shape_text(approximation.rows, approximation.cols));
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

}  // namespace detail

/// Differences between a reference a and its approximation b, accumulated in double in a fixed
/// order. A NaN anywhere makes every figure NaN.
struct ErrorMetrics {
  std::int64_t count = 0;
  double max = 0;      ///< max |a - b|
  double mean = 0;     ///< mean |a - b|
  double mse = 0;      ///< mean (a - b)^2
  double sqnr_db = 0;  ///< 10 log10(sum a^2 / sum (a - b)^2); +inf where a equals b
  double cosine = 1;   ///< a . b / (|a| |b|); 1 where both are zero, 0 where one is
};

/// The same figures for matrices that come in parts: rows of a matrix larger than memory, layers of
/// a model. Sums are in double, in the order of the calls: the same parts give the same bits.
class ErrorAccumulator {
 public:
  /// @param reference, approximation  as for compare()
  /// @throws Error as compare() does; nothing was added then
  void add(ConstAnyMatrix reference, ConstAnyMatrix approximation);
  /// Adds what another one has seen.
  void add(const ErrorAccumulator& other) noexcept;
  [[nodiscard]] ErrorMetrics metrics() const noexcept;
  /// sum a^2 of all references, and sum (a - b)^2.
  [[nodiscard]] double signal() const noexcept { return signal_; }
  [[nodiscard]] double squared_error() const noexcept { return squares_; }

 private:
  std::int64_t count_ = 0;
  double max_ = 0;
  double sum_ = 0;
  double squares_ = 0;
  double signal_ = 0;
  double other_ = 0;
  double product_ = 0;
  bool nan_ = false;
};

inline void ErrorAccumulator::add(ConstAnyMatrix reference, ConstAnyMatrix approximation) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_comparison(reference, approximation);
  count_ += reference.rows * reference.cols;
  detail::visit_elements(reference, [&](const auto* a_data) {
    detail::visit_elements(approximation, [&](const auto* b_data) {
      for (std::int64_t r = 0; r < reference.rows; ++r) {
        const auto* a_row = a_data + r * reference.stride;
        const auto* b_row = b_data + r * approximation.stride;
        for (std::int64_t c = 0; c < reference.cols; ++c) {
          const double a = detail::widen(a_row[c]);
          const double b = detail::widen(b_row[c]);
          const double error = a == b ? 0 : std::abs(a - b);  // equal infinities agree
          nan_ = nan_ || std::isnan(error);
          max_ = std::max(max_, error);
          sum_ += error;
          squares_ += detail::separate_rounding(error * error);
          signal_ += detail::separate_rounding(a * a);
          other_ += detail::separate_rounding(b * b);
          product_ += detail::separate_rounding(a * b);
        }
      }
    });
  });
}

inline void ErrorAccumulator::add(const ErrorAccumulator& other) noexcept {
  count_ += other.count_;
  nan_ = nan_ || other.nan_;
  max_ = std::max(max_, other.max_);
  sum_ += other.sum_;
  squares_ += other.squares_;
  signal_ += other.signal_;
  other_ += other.other_;
  product_ += other.product_;
}

inline ErrorMetrics ErrorAccumulator::metrics() const noexcept {
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

/// @param reference, approximation  same shape; float64, float32, float16 or bfloat16 each
/// @throws Error shape_mismatch, unsupported, invalid_argument
[[nodiscard]] inline ErrorMetrics compare(ConstAnyMatrix reference, ConstAnyMatrix approximation) {
  const detail::ScopedFloatEnvironment environment;
  ErrorAccumulator accumulator;
  accumulator.add(reference, approximation);
  return accumulator.metrics();
}

/// "max 0.0123, mean 0.00456, mse 3.2e-05, sqnr 34.1 dB, cosine 0.99981"
[[nodiscard]] inline std::string to_string(const ErrorMetrics& m) {
  const auto text = [](double value) { return detail::number_text(value); };
  return "max " + text(m.max) + ", mean " + text(m.mean) + ", mse " + text(m.mse) + ", sqnr " +
         text(m.sqnr_db) + " dB, cosine " + text(m.cosine);
}

}  // namespace kvant
