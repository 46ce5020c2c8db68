#pragma once

// What recognising a layer takes in every form.

#include <cstdint>
#include <span>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// A weight with two dimensions, neither 0 nor so large that products overflow.
[[nodiscard]] bool is_weight_matrix(const TensorInfo& weight) noexcept;

/// Name, format, dtype and bytes of the tensor NAME.weight, or whatever its suffix is.
[[nodiscard]] StoredLayer start_layer(const TensorInfo& weight, std::optional<WeightFormat> format,
                                      std::string_view suffix = kWeightSuffix);

/// Adds the bytes of the parts that are there.
void add_parts(StoredLayer& layer, const FindTensor& find, std::span<const LayerPart> parts);

}  // namespace kvant::io
