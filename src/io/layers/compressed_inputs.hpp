#pragma once

// compressed-tensors' scales of activations: NAME.input_scale and NAME.input_zero_point, and what
// config.json says of them.

#include <optional>
#include <string>

#include "io/layers/values.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::io {

inline constexpr const char* kInputScale = ".input_scale";
inline constexpr const char* kInputZeroPoint = ".input_zero_point";

/// When the scales of a layer's activations are known.
enum class InputScales : std::uint8_t {
  unsaid,   ///< config.json does not say: a file that has them means them
  at_run,   ///< of each token when the model runs, or activations are not quantized
  in_file,  ///< measured beforehand
  unclear,  ///< groups of layers differ, and which of them means the layer is not asked
  other,    ///< measured beforehand, but no single scale of int8 codes
};

/// The scale and zero point of an int8 layer's activations, where the file has them and `said` does
/// not speak against it.
/// @throws FormatError bad_scales: no number above 0, no int8, several of them (groups of
///         features); in_file, and the file has none
[[nodiscard]] std::optional<QuantParams> compressed_inputs(const FindTensor& find,
                                                           const StoredLayer& layer,
                                                           InputScales said);

}  // namespace kvant::io
