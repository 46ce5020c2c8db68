#pragma once

/// @file
/// What LLM.int8() asks of its options and of its operands' lengths.

#include <cstdint>
#include <string>

#include "kvant/activation_options.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/error.hpp"

namespace kvant {

/// The longest K whose s8 x s8 dot product fits int32 for every code, -128 included.
inline constexpr std::int64_t kMaxInnerDimension = 131071;

namespace detail {

/// @param k  input features
/// @throws Error invalid_argument, out_of_range (a column that is not there)
inline void check_activation_options(const char* who, const ActivationOptions& options,
                                     std::int64_t k) {
  if (!(options.threshold >= 0.0f)) {  // NaN too
    fail(ErrorCode::invalid_argument, std::string(who) + ": threshold " +
                                          std::to_string(options.threshold) +
                                          "; it must be 0 (no outliers) or positive");
  }
  if (options.arithmetic == Arithmetic::bitsandbytes &&
      (!options.keep_columns.empty() || options.outliers != Outliers::per_call ||
       options.activation_scale != ActivationScale::per_row)) {
    fail(
        ErrorCode::invalid_argument,
        std::string(who) +
            ": bitsandbytes' arithmetic has per-call outliers, per-row scales and no kept columns");
  }
  const bool rounds = options.static_params != nullptr || options.activation_type != DType::int8;
  if (rounds && options.arithmetic == Arithmetic::bitsandbytes) {
    fail(ErrorCode::invalid_argument,
         std::string(who) +
             ": bitsandbytes' arithmetic has int8 codes by the rows' own absmax, "
             "not static scales or other types");
  }
  if (options.arithmetic == Arithmetic::int15 && (rounds || !options.keep_columns.empty())) {
    fail(ErrorCode::invalid_argument,
         std::string(who) +
             ": int15 arithmetic has codes by the rows' own absmax and takes no outliers apart: "
             "neither keep_columns nor static scales nor other types go with it");
  }
  if (options.activation_type != DType::int8 && options.activation_type != DType::float8_e4m3fn) {
    fail(ErrorCode::unsupported, std::string(who) + ": activations of type " +
                                     std::string(to_string(options.activation_type)) +
                                     "; int8 and float8_e4m3fn are possible");
  }
  std::int64_t previous = -1;
  for (const std::int64_t column : options.keep_columns) {
    if (column < 0 || column >= k) {
      fail(ErrorCode::out_of_range, std::string(who) + ": keep_columns names column " +
                                        std::to_string(column) + " of " + std::to_string(k));
    }
    if (column <= previous) {
      fail(ErrorCode::invalid_argument,
           std::string(who) + ": keep_columns must ascend without duplicates; " +
               std::to_string(column) + " follows " + std::to_string(previous));
    }
    previous = column;
  }
}

/// Calibrated outliers without columns would find none.
inline void check_calibrated(const char* who, const ActivationOptions& options) {
  if (options.outliers == Outliers::calibrated && options.keep_columns.empty() &&
      options.threshold > 0 && options.arithmetic != Arithmetic::int15) {
    fail(ErrorCode::invalid_argument,
         std::string(who) +
             ": calibrated outliers without keep_columns: no column would be multiplied in "
             "floating point; give the columns (OutlierFinder), or threshold 0 if that is meant");
  }
}

inline void check_inner_dimension(const char* who, std::int64_t k) {
  if (k <= kMaxInnerDimension) return;
  fail(ErrorCode::out_of_range, std::string(who) + ": " + std::to_string(k) +
                                    " inputs; int8 products are summed in int32, " +
                                    "which is exact up to " + std::to_string(kMaxInnerDimension));
}

/// float32(1/127) as bitsandbytes writes it.
inline constexpr float kInverse127 = 7.874015718698502e-3f;
/// bitsandbytes' CPU constant for 1/127^2: 1.8e-5 too large, and part of its results.
inline constexpr float kBitsandbytesScale = 6.200124e-05f;

}  // namespace detail

}  // namespace kvant
