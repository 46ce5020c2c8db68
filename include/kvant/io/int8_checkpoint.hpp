#pragma once

/// @file
/// 8-bit checkpoints in the form of bitsandbytes, read and checked.
///
/// A linear layer MODULE is stored as
///     MODULE.weight         I8 [out, in]   codes, row by row
///     MODULE.SCB            F32 [out]      absmax of each output: weight = code * SCB / 127
///     MODULE.weight_format  U8 []          0: row by row; may be missing
///     MODULE.bias           as in the original
/// kvant's own choices travel beside them; transformers reports the unknown tensors and goes on:
///     MODULE.kvant_keep_columns  I64 [n]            input features whose weights are also kept in
///                                                   half precision, ascending
///     MODULE.kvant_keep_weights  F16 or BF16 [out, n]  these weights
/// and the metadata entry "kvant.outliers" is "per_call" (also where it is missing), "per_row" or
/// "calibrated": Int8Options::outliers for all layers.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/llm_int8.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::io {

inline constexpr std::string_view kOutliersMetadata = "kvant.outliers";

/// One layer. The views point into the checkpoint, and end with Checkpoint::release of theirs.
struct Int8Module {
  std::string name;
  MatrixView<const std::int8_t> codes;
  std::vector<float> absmax;
  std::vector<std::int64_t> keep_columns;  ///< empty: none
  ConstAnyMatrix kept_weights;             ///< [out, keep_columns.size()]; 0 rows: none
};

/// Whether MODULE.weight holds 8-bit codes.
[[nodiscard]] KVANT_API bool is_int8_module(const Checkpoint& checkpoint, std::string_view module);

/// A layer, everything about it checked but the codes, of which every value is one.
/// @throws FormatError missing_scales (no SCB), bad_scales (wrong length or dtype, negative, not
///         finite), weight_format (not 0), structure (codes that are no I8 matrix, kept columns
///         that cannot be); Error invalid_argument (no such tensor)
[[nodiscard]] KVANT_API Int8Module read_int8_module(const Checkpoint& checkpoint,
                                                    const std::string& module);

/// The names of all 8-bit layers, ascending.
/// @throws FormatError missing_scales: SCB or weight_format without 8-bit codes
[[nodiscard]] KVANT_API std::vector<std::string> int8_modules(const Checkpoint& checkpoint);

/// What the metadata says of outliers.
/// @throws FormatError structure: another word than the three
[[nodiscard]] KVANT_API Outliers stored_outliers(const Checkpoint& checkpoint);

/// The word for the metadata.
[[nodiscard]] KVANT_API std::string_view to_string(Outliers outliers) noexcept;

}  // namespace kvant::io
