#pragma once

// Which layers read one input, and what makes it: where factors of the inputs can be folded in.

#include <string>
#include <vector>

#include "models/load/parts.hpp"

namespace kvant::models {

/// Layers with one input, which a norm or a linear layer before it makes.
struct ScalableInput {
  std::vector<LinearSpec> specs;    ///< slots are null
  std::vector<std::string> layers;  ///< by their names in the file, in the same order
  /// Tensors whose outputs (elements) are divided by the factors.
  std::vector<std::string> before;
  float offset = 0;  ///< of those, where they are norms
  bool is_norm = true;
};

/// Of all blocks: norm -> q, k, v; v -> o where each query head has its own values; norm -> gate,
/// up; up -> down where a gate multiplies it. None where norms stand behind what they belong to.
[[nodiscard]] std::vector<ScalableInput> scalable_inputs(const Config& config,
                                                         const PartLoader& parts,
                                                         const WeightSource& source);

}  // namespace kvant::models
