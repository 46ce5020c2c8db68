#pragma once

// What recognising a layer takes in every form.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// A weight with two dimensions, neither 0 nor so large that products overflow.
[[nodiscard]] bool is_weight_matrix(const TensorInfo& weight) noexcept;

/// NAME of the tensor NAME.weight, or whatever its suffix is.
[[nodiscard]] std::string layer_of(const TensorInfo& weight,
                                   std::string_view suffix = kWeightSuffix);

/// Name, format, dtype and bytes of the tensor NAME.weight, or whatever its suffix is.
[[nodiscard]] StoredLayer start_layer(const TensorInfo& weight, std::optional<WeightFormat> format,
                                      std::string_view suffix = kWeightSuffix);

/// Adds the bytes of the parts that are there.
void add_parts(StoredLayer& layer, const FindTensor& find, std::span<const LayerPart> parts);

/// All of it for a weight whose shape is [outputs, inputs].
[[nodiscard]] StoredLayer matrix_layer(const TensorInfo& weight, WeightFormat format,
                                       const FindTensor& find, std::span<const LayerPart> parts);

}  // namespace kvant::io
