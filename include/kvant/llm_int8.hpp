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
};

}  // namespace kvant
