#pragma once

// Models that somebody else's tool quantized, in a form that kvant does not read: recognized by
// what config.json says, else by their tensors.

#include <optional>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

/// The method and how it was told: "gptq (tensor "x.qweight")"; nothing: no foreign form.
[[nodiscard]] KVANT_API std::optional<std::string> foreign_quantization(
    const ModelHints& hints, const std::vector<const TensorInfo*>& tensors);

}  // namespace kvant::io
