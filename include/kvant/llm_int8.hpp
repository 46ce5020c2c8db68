#pragma once

/// @file
/// LLM.int8() (Dettmers et al., arXiv 2208.07339): activations quantized row by row, weights output
/// by output, the few outlier features (|x| >= threshold) multiplied in floating point, both
/// summed. numerics.md, section "LLM.int8()", is the contract.

#include <cstdint>
#include <span>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// How outlier features are chosen.
enum class Outliers : std::uint8_t {
  per_call,    ///< the paper: a column with an outlier in any row of the call is one for all rows
  per_row,     ///< batch-invariant: a row's result does not depend on its neighbours
  calibrated,  ///< only the listed columns; nothing is searched at run time
};

/// Which arithmetic the floating-point steps follow.
enum class Arithmetic : std::uint8_t {
  kvant,         ///< one rounding to the output type, exact 1/127^2
  bitsandbytes,  ///< bitsandbytes' CPU backend: codes and scales bit for bit, its constants
};

/// The absmax that activations are scaled by.
enum class ActivationScale : std::uint8_t {
  per_row,     ///< each row's own (vector-wise)
  per_tensor,  ///< the largest of the call, for all rows
};

struct Int8Options {
  /// |x| >= threshold makes an outlier; 0: no decomposition. NaN or negative is an error.
  float threshold = 6.0f;
  Outliers outliers = Outliers::per_call;
  Arithmetic arithmetic = Arithmetic::kvant;
  /// Columns (input features) known to be outliers, ascending, without duplicates. Their weights
  /// are kept in fp16 (bf16 where one exceeds 65504) beside the codes; they always take the float
  /// path. Further outliers are still found at run time unless outliers == calibrated.
  /// Not with Arithmetic::bitsandbytes, which has only the int8 codes.
  std::span<const std::int64_t> keep_columns = {};
  ActivationScale activation_scale = ActivationScale::per_row;
  /// Report NaN and Inf in weights and activations as Error not_finite. Otherwise they are defined
  /// results: an output or row with a NaN is NaN, infinities propagate as in floating point.
  bool check_finite = false;
};

/// y [M, N] = x [M, K] w^T + bias by LLM.int8(), both sides quantized in this call as in the paper:
/// outlier columns are found in x first, and their weights are taken from w in half precision.
/// For weights used more than once make an Int8Linear: it quantizes and packs them once.
/// @param x, w   fp32, fp16 or bf16; w is [N, K] as nn.Linear stores it
/// @param bias   [1, N], or empty
/// @throws Error shape_mismatch, invalid_argument, unsupported, out_of_range, out_of_memory
KVANT_API void llm_int8_matmul(Context& context, ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y,
                               ConstAnyMatrix bias = {}, const Int8Options& options = {});
KVANT_API void llm_int8_matmul(ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y,
                               ConstAnyMatrix bias = {}, const Int8Options& options = {});

}  // namespace kvant
