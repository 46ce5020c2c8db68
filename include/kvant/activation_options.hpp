#pragma once

/// @file
/// How a layer with integer weights quantizes its activations (ActivationOptions).

#include <cstdint>
#include <span>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

struct QuantParams;

/// How outlier features are chosen.
enum class Outliers : std::uint8_t {
  per_call,    ///< the paper: a column with an outlier in any row of the call is one for all rows
  per_row,     ///< batch-invariant: a row's result does not depend on its neighbours
  calibrated,  ///< only the listed columns; nothing is searched at run time
};

/// Which arithmetic the floating-point steps follow.
enum class Arithmetic : std::uint8_t {
  kvant,         ///< int8 products, one rounding to the output type, exact 1/127^2
  bitsandbytes,  ///< bitsandbytes' CPU backend: codes and scales bit for bit, its constants;
                 ///< formats other than its 8-bit weights: as `exact`
  exact,         ///< weights as the real values they stand for, activations in fp32, sums in fp32:
                 ///< what bitsandbytes' 4-bit layers and GPTQ's compute. Slower
  int15,         ///< two int8 codes for each activation, together 15 bits (core/int15.hpp): their
                 ///< rounding is a hundredth of `kvant`'s, at 0.7 of its speed for one row and half
                 ///< of it for many. No outliers (threshold and outliers mean nothing), so a row
                 ///< with absmax A has steps of A / 16256: from some 400 times its usual values on
                 ///< `kvant`, which takes those apart, is closer. nf4 and fp4 keep the error of
                 ///< their codebooks in int8. A row with a NaN or an infinity gives NaN. On the
                 ///< CPU. Formats that integer kernels do not multiply: as `exact`
};

/// The absmax that activations are scaled by.
enum class ActivationScale : std::uint8_t {
  per_row,     ///< each row's own (vector-wise)
  per_tensor,  ///< the largest of the call, for all rows
};

/// How a layer with integer weights quantizes its activations.
struct ActivationOptions {
  /// |x| >= threshold makes an outlier; 0: no decomposition. NaN or negative is an error.
  float threshold = 6.0f;
  Outliers outliers = Outliers::per_call;
  Arithmetic arithmetic = Arithmetic::kvant;
  /// Columns (input features) known to be outliers, ascending, without duplicates. Their weights
  /// are kept in fp16 (bf16 where one exceeds 65504) beside the codes; they always take the float
  /// path. Further outliers are still found at run time unless outliers == calibrated.
  /// Not with Arithmetic::bitsandbytes, which has only the int8 codes, nor with int15.
  std::span<const std::int64_t> keep_columns = {};
  ActivationScale activation_scale = ActivationScale::per_row;
  /// int8: codes. float8_e4m3fn: activations are rounded to values of that type times absmax / 448,
  /// and the product is one of floats (`arithmetic` becomes exact).
  DType activation_type = DType::int8;
  /// Static quantization: scales and zero points that were measured beforehand (an observer's
  /// params), one for all features (per_tensor) or one for each group of features (BlockShape{0,
  /// group}), with codes of int8, uint8 or float8_e4m3fn, which activation_type follows. The layer
  /// copies them. Nothing is searched then: values beyond the range saturate, a NaN counts as 0,
  /// and threshold, outliers and activation_scale mean nothing; keep_columns stay apart. Integers:
  /// y = (sum(codes * w) - sum(zero_points * w)) * scale, the second sum made once for a layer;
  /// scales of groups go into the weights before they are quantized. On the CPU.
  const QuantParams* static_params = nullptr;
  /// Report NaN and Inf in weights and activations as Error not_finite. Otherwise they are defined
  /// results: a row of x with a NaN gives NaN, and so does an output with a NaN or an infinity
  /// among its int8 weights; infinities in x propagate as in floating point.
  bool check_finite = false;
};

/// LLM.int8() is int8 weights with these options for the activations.
using Int8Options = ActivationOptions;

}  // namespace kvant
