#pragma once

// The linear layers of a loaded model, by their names.

#include <memory>
#include <string>
#include <vector>

#include "kvant/models/model.hpp"

namespace kvant::models {

/// A layer that schemes quantize, and its place in the model.
struct ModelLinear {
  std::string name;  ///< "model.layers.0.self_attn.q_proj", as patterns are matched against
  std::unique_ptr<LinearLayer>* slot;
};

/// In the order in which they run; places stay while the model does not move.
[[nodiscard]] std::vector<ModelLinear> linears_of(Model& model);

}  // namespace kvant::models
