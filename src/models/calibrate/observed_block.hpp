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
  std::vector<float> rows;  ///< of the window that is running, [any, features]
};

/// The inputs of some layers: those that stand in one projection share theirs. Layers keep what
/// they read of a window; observe() counts it, the windows of all ranks in their order.
class ObservedInputs {
 public:
  ObservedInputs(Context& context, const CalibrateOptions& options)
      : context_(context), options_(options) {}

  /// The layer, which notes what it reads, its `features` inputs.
  /// @param first null, or a layer before it that reads the same
  [[nodiscard]] std::unique_ptr<LinearLayer> observing(const std::string& name,
                                                       std::unique_ptr<LinearLayer> layer,
                                                       std::int64_t features,
                                                       const std::string* first);
  /// The same, made from its parameters.
  [[nodiscard]] std::unique_ptr<LinearLayer> observing(const std::string& name,
                                                       const FloatParameters& parameters,
                                                       const std::string* first);
  /// Behind each window of this rank; all ranks call it as often. @throws Error not_finite
  void observe();
  /// Behind the last window: rank 0 has everything then.
  void complete();
  [[nodiscard]] std::vector<std::unique_ptr<ObservedInput>>& inputs() noexcept { return inputs_; }
  /// Of what a layer reads; complete on rank 0.
  [[nodiscard]] const methods::GramMatrix& moments_of(const std::string& layer) const;

 private:
  void observe_window(ObservedInput& input, MatrixView<const float> x);
  [[nodiscard]] int rank() const { return options_.ranks == nullptr ? 0 : options_.ranks->rank(); }
  [[nodiscard]] int ranks() const { return options_.ranks == nullptr ? 1 : options_.ranks->size(); }

  Context& context_;
  const CalibrateOptions& options_;
  std::vector<std::unique_ptr<ObservedInput>> inputs_;
};

/// A layer in float, by fast kernels.
[[nodiscard]] std::unique_ptr<LinearLayer> plain_layer(Context& context, ConstAnyMatrix weights,
                                                       const std::vector<float>& bias,
                                                       WeightFormat format);

/// Of each layer of a block, the first one that reads the same input, by its number.
[[nodiscard]] std::vector<std::size_t> shared_inputs(const Block& block,
                                                     const std::vector<LinearSpec>& specs);

}  // namespace kvant::models
