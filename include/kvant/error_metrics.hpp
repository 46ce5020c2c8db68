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

/// @param reference, approximation  same shape; float64, float32, float16 or bfloat16 each
/// @throws Error shape_mismatch, unsupported, invalid_argument
[[nodiscard]] KVANT_API ErrorMetrics compare(ConstAnyMatrix reference,
                                             ConstAnyMatrix approximation);

/// "max 0.0123, mean 0.00456, mse 3.2e-05, sqnr 34.1 dB, cosine 0.99981"
[[nodiscard]] KVANT_API std::string to_string(const ErrorMetrics& metrics);

}  // namespace kvant
