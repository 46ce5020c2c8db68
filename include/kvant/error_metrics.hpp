#pragma once

/// @file
/// How far one matrix is from another.

#include <cstdint>
#include <string>

#include "kvant/config.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

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
class KVANT_API ErrorAccumulator {
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

/// @param reference, approximation  same shape; float64, float32, float16 or bfloat16 each
/// @throws Error shape_mismatch, unsupported, invalid_argument
[[nodiscard]] KVANT_API ErrorMetrics compare(ConstAnyMatrix reference,
                                             ConstAnyMatrix approximation);

/// "max 0.0123, mean 0.00456, mse 3.2e-05, sqnr 34.1 dB, cosine 0.99981"
[[nodiscard]] KVANT_API std::string to_string(const ErrorMetrics& metrics);

}  // namespace kvant
