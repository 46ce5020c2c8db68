#pragma once

// The model behind FormatTrials: in float32, with the places of its layers.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kvant/models/linear_layer.hpp"
#include "kvant/models/sensitivity.hpp"

namespace kvant::models {

/// A linear layer of the model, and where it stands.
struct TrialLayer {
  std::string name;  ///< in the file
  std::int64_t block = 0;
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::vector<float> bias;
  std::unique_ptr<LinearLayer>* slot = nullptr;
  std::size_t reads = 0;  ///< the first layer that has the same input, by its number
};

struct TrialModel {
  TrialModel(Context& own_context, const Config& own_config, bool in_exact)
      : context(own_context), config(own_config), exact(in_exact) {}

  Context& context;
  Config config;
  bool exact;
  Model model;  ///< does not move: slots point into it
  std::vector<TrialLayer> layers;
  std::uint64_t other_bytes = 0;

  /// The weights [outputs, inputs] of a layer that stands in its place in float.
  [[nodiscard]] std::vector<float> weights_of(const TrialLayer& layer) const;
  /// A layer in a format. @param weights as weights_of()
  [[nodiscard]] std::unique_ptr<QuantizedLinear> make(const TrialLayer& layer,
                                                      MatrixView<const float> weights,
                                                      LayerFormat format) const;
};

struct FormatTrials::State : TrialModel {
  using TrialModel::TrialModel;
};

/// Other layers in the places of a model's, until the end of a scope.
class Replaced {
 public:
  Replaced() = default;
  ~Replaced() {
    for (auto& [slot, layer] : kept_) *slot = std::move(layer);
  }
  Replaced(const Replaced&) = delete;
  Replaced& operator=(const Replaced&) = delete;

  void put(std::unique_ptr<LinearLayer>& slot, std::unique_ptr<LinearLayer> layer) {
    kept_.emplace_back(&slot, std::move(slot));
    slot = std::move(layer);
  }

 private:
  std::vector<std::pair<std::unique_ptr<LinearLayer>*, std::unique_ptr<LinearLayer>>> kept_;
};

}  // namespace kvant::models
