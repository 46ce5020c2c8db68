#pragma once

/// @file
/// GatheredLinear: a rank's part of a layer whose input is split over ranks and whose output every
/// rank needs.

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "kvant/models/linear_layer.hpp"
#include "kvant/parallel_linear.hpp"
#include "kvant/ranks.hpp"

namespace kvant::models {

class DeviceLinear;

/// Split by outputs: the ranks' columns of x are gathered, each rank computes its outputs from all
/// of them, and these are gathered too. Quantized activations travel as codes where they can
/// (RowParallelLinear).
class KVANT_API GatheredLinear final : public LinearLayer {
 public:
  /// All ranks make it.
  /// @param own this rank's outputs, of all inputs
  /// @param input_widths, output_widths of all ranks
  GatheredLinear(Ranks& ranks, std::unique_ptr<LinearLayer> own,
                 std::vector<std::int64_t> input_widths, std::vector<std::int64_t> output_widths);

  /// x [M, this rank's inputs]; y [M, all outputs]
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override;
  [[nodiscard]] std::int64_t out_features() const override { return outputs_; }
  /// Of this rank's part.
  [[nodiscard]] std::size_t weight_bytes() const override { return own_->weight_bytes(); }

 private:
  Ranks& ranks_;
  std::unique_ptr<LinearLayer> own_;
  std::optional<RowParallelLinear> shared_;  ///< the same layer, where it is kvant's
  const DeviceLinear* on_device_ = nullptr;  ///< own_, if all devices have it and are connected
  std::vector<std::int64_t> input_widths_;
  std::vector<std::int64_t> output_widths_;
  std::int64_t inputs_;
  std::int64_t outputs_;
};

}  // namespace kvant::models
