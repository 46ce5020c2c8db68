#pragma once

// What recognising a layer takes in every form.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// Rows and columns beyond that are of no layer: their product must fit 63 bits.
inline constexpr std::int64_t kMaxDimension = std::int64_t{1} << 31;

/// "F32 [2, 3]"
[[nodiscard]] std::string type_and_shape(const TensorInfo& info);

/// "tensor 'x.weight' is F32 [2, 3]"
[[nodiscard]] std::string described(const TensorInfo& info);

/// @throws FormatError of that kind: described(info) and what is wrong with it
[[noreturn]] void refuse_tensor(FormatErrorKind kind, const TensorInfo& info,
                                const std::string& what);

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
