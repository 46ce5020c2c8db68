#pragma once

// A block in float whose layers note what they read.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "kvant/methods/gram.hpp"
#include "kvant/methods/input_statistics.hpp"
#include "kvant/models/statistics.hpp"
#include "models/load/parts.hpp"

namespace kvant::models {

/// An input of one or more layers.
struct ObservedInput {
  std::vector<std::string> layers;  ///< that read it; the first gives it its name
  methods::InputStatistics statistics;
  methods::GramMatrix moments;
};

/// The inputs of some layers: those that stand in one projection share theirs.
class ObservedInputs {
 public:
  ObservedInputs(Context& context, const CalibrateOptions& options)
      : context_(context), options_(options) {}

  /// The layer, from its parameters, which notes what it reads.
  /// @param first null, or a layer before it that reads the same
  [[nodiscard]] std::unique_ptr<LinearLayer> observing(const std::string& name,
                                                       const FloatParameters& parameters,
                                                       const std::string* first);
  [[nodiscard]] std::vector<std::unique_ptr<ObservedInput>>& inputs() noexcept { return inputs_; }

 private:
  Context& context_;
  const CalibrateOptions& options_;
  std::vector<std::unique_ptr<ObservedInput>> inputs_;
};

/// Of each layer of a block, the first one that reads the same input, by its number.
[[nodiscard]] std::vector<std::size_t> shared_inputs(const Block& block,
                                                     const std::vector<LinearSpec>& specs);

}  // namespace kvant::models
