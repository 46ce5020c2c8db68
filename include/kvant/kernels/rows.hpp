#pragma once

/// @file
/// Arguments of the operations on rows of floats and codes: quantizing activations and finding
/// their outliers, ranges, elementwise quantization and conversions.

#include <cstddef>
#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/kernels/layouts.hpp"
#include "kvant/round_order.hpp"

namespace kvant {

/// Quantizes rows to symmetric int8, each by its own absmax (or by a given one), and finds
/// outliers, reading the matrix once.
///   absmax[r] = max |x| over the elements that are neither masked nor outliers; codes =
///   rne(x * (127 / absmax)); outlier and masked elements have code 0.
///   A row with a NaN: absmax NaN, codes 0. A row of zeros: absmax 0, codes 0.
///   Where 127 / absmax would overflow, absmax is raised to kSmallestAbsmax.
struct QuantizeRowsArgs {
  FloatRows x;
  /// As bitsandbytes: x is rounded to fp16 first, and the inverse scale is (1 / absmax) * 127,
  /// which is how torch evaluates 127 / tensor and differs from one division in the last bit.
  bool bitsandbytes;
  /// |x| >= threshold is an outlier; +infinity: only infinities are. Not negative (-0 neither), not
  /// NaN.
  float threshold;
  /// [cols]: 0 removes a column (a known outlier feature), -1 keeps it; null keeps all.
  const std::int16_t* keep_mask;
  /// Scale by this absmax instead of each row's own; null: the row's own.
  const float* given_absmax;
  void* codes;  ///< [rows, k_padded] in `format`, padding is written too; null: only scan
  ActivationFormat format;     ///< s8 or u8_offset
  std::ptrdiff_t code_stride;  ///< bytes between rows
  std::int64_t k_padded;       ///< at least cols, a multiple of the layout's k_pad
  float* absmax;               ///< [rows]
  /// [rows]: what integer sums are multiplied by, absmax / 127 (bitsandbytes: absmax itself). Null:
  /// not wanted.
  float* row_scale = nullptr;
  /// [cols], zeros and ones, this call's alone: set to 1 where a column has an outlier, the others
  /// stay. Null: outliers are not wanted, a row that has one (an infinity) gets absmax NaN.
  std::uint8_t* outlier_columns;
  void* queue = nullptr;  ///< of a device (kernels/memory.hpp); host kernels do not look
};

/// Flags of outlier columns become an ascending list, and their codes leave the integer product.
struct ListOutliersArgs {
  std::uint8_t* flags;  ///< [tasks, cols] zeros and ones; the first row becomes the union of all
  std::int64_t tasks;
  std::int64_t cols;
  std::int64_t* columns;  ///< room for cols; ascending
  std::int64_t* count;    ///< how many there are; where the data is
  /// Activation codes in RowBlocks, 1 byte each; a listed column becomes the code of zero in every
  /// row. Null: codes stay as they are (only the outlier elements themselves are 0 already).
  void* codes;
  ActivationFormat format;
  RowBlocks blocks;
  std::int64_t k_padded;
  void* queue = nullptr;
};

/// Sums of activation codes (ActivationSums), which products of groups of weights begin from. Made
/// after list_outliers, which changes codes.
struct SumCodesArgs {
  void* codes;  ///< s8 in RowBlocks; ActivationSums::split changes them
  RowBlocks blocks;
  std::int64_t block_begin, block_end;  ///< those to sum
  std::int64_t k_padded;                ///< a multiple of 32 (split: of 64)
  ActivationSums kind;
  std::int32_t* sums;  ///< [m * sums_of_row(k_padded, kind)]
};

/// Some columns of x as floats, feature by feature: to[j * rows + r] = x[r, columns[j]], or 0 where
/// |x| is below the threshold (an element that the integer product has; NaN too: it is in the row's
/// scale already).
struct GatherFeaturesArgs {
  FloatRows x;
  const std::int64_t* columns;
  std::int64_t count;
  float threshold;  ///< 0: every element
  float* to;        ///< [count, rows]
  void* queue = nullptr;
};

/// Minimum and maximum, NaN elements ignored (a slice of nothing but NaN: +inf, -inf).
struct RangeArgs {
  FloatRows x;
  bool per_column;  ///< false: min[rows], max[rows]; true: min[cols], max[cols], merged into what
                    ///< they hold, so that row blocks can be scanned one after the other
  float* min;
  float* max;
  void* queue = nullptr;
};

/// Elementwise quantization to 8-bit codes. Parameter p of element (r, c) is
/// p[r * row_step + c * col_step]; the steps are 0 or 1. NaN gives the zero point.
struct QuantizeArgs {
  FloatRows x;
  RoundOrder order;
  const float* scale;       ///< inv_scale for the reciprocal orders, scale for divide
  const float* zero_point;  ///< integers
  std::int32_t row_step;
  std::int32_t col_step;
  float lowest;  ///< clamp range, inside the code type's
  float highest;
  void* codes;  ///< [rows, cols]: int8, or uint8 where is_unsigned
  bool is_unsigned;
  std::ptrdiff_t code_stride;
  void* queue = nullptr;
};

/// (code - zero_point) * scale in fp32, then one rounding to y's type.
struct DequantizeArgs {
  const void* codes;
  bool is_unsigned;
  std::int64_t rows;
  std::int64_t cols;
  std::ptrdiff_t code_stride;
  const float* scale;
  const float* zero_point;
  std::int32_t row_step;
  std::int32_t col_step;
  void* y;
  DType y_dtype;  ///< float32, float16 or bfloat16
  std::ptrdiff_t y_stride;
  void* queue = nullptr;
};

/// Converts between float32, float16 and bfloat16 (round to nearest even).
struct ConvertArgs {
  const void* x;
  DType x_dtype;
  void* y;
  DType y_dtype;
  std::int64_t count;
  void* queue = nullptr;
};

}  // namespace kvant
