#pragma once

/// @file
/// 8-bit checkpoints in the form of bitsandbytes, read and checked.
///
/// A linear layer LAYER is stored as
///     LAYER.weight         I8 [out, in]   codes, row by row
///     LAYER.SCB            F32 [out]      absmax of each output: weight = code * SCB / 127
///     LAYER.weight_format  U8 []          0: row by row; may be missing
///     LAYER.bias           as in the original
/// kvant's own choices travel beside them; transformers reports the unknown tensors and goes on:
///     LAYER.kvant_keep_columns  I64 [n]            input features whose weights are also kept in
///                                                   half precision, ascending
///     LAYER.kvant_keep_weights  F16 or BF16 [out, n]  these weights
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

/// The key in a file's metadata that says how outlier features are chosen at run time.
inline constexpr std::string_view kOutliersMetadata = "kvant.outliers";

/// One layer. The views point into the checkpoint, and end with Checkpoint::release of theirs.
struct Int8Layer {
  std::string name;
  MatrixView<const std::int8_t> codes;
  std::vector<float> absmax;
  std::vector<std::int64_t> kept_columns;  ///< input features; empty: none
  ConstAnyMatrix kept_weights;             ///< [out, kept_columns.size()]; 0 rows: none
};

/// Whether LAYER.weight holds 8-bit codes.
[[nodiscard]] KVANT_API bool is_int8_layer(const Checkpoint& checkpoint, std::string_view layer);

/// A layer, everything about it checked but the codes, of which every value is one.
/// @throws FormatError missing_scales (no SCB), bad_scales (wrong length or dtype, negative, not
///         finite), weight_format (not 0), structure (codes that are not an I8 matrix, kept columns
///         that cannot be); Error invalid_argument (no such tensor)
[[nodiscard]] KVANT_API Int8Layer read_int8_layer(const Checkpoint& checkpoint,
                                                  const std::string& layer);

/// The names of all 8-bit layers, ascending.
/// @throws FormatError missing_scales: SCB or weight_format without 8-bit codes
[[nodiscard]] KVANT_API std::vector<std::string> int8_layers(const Checkpoint& checkpoint);

/// What the metadata says of outliers.
/// @throws FormatError structure: another word than the three
[[nodiscard]] KVANT_API Outliers stored_outliers(const Checkpoint& checkpoint);

/// The word for the metadata.
[[nodiscard]] KVANT_API std::string_view to_string(Outliers outliers) noexcept;

}  // namespace kvant::io
