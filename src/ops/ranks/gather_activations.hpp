#pragma once

// The first stage of forward where x is split by columns over ranks.

#include <cstdint>
#include <memory>
#include <vector>

#include "kvant/linear.hpp"
#include "kvant/ranks.hpp"
#include "ops/linear/activations.hpp"

namespace kvant::detail {

/// What QuantizedActivations is made of.
struct GatheredActivations {
  Workspace memory;
  Activations batch;
  std::shared_ptr<const ActivationRules> rules;
};

/// Whether the layer takes codes of rows that have a scale each.
[[nodiscard]] bool takes_codes(const Linear& layer) noexcept;

/// This rank's x [M, widths[rank]] becomes, with everybody else's, what the layer's
/// quantize_activations makes of the whole, bit for bit. Two exchanges: each row's absmax and the
/// flags of outlier features; codes and the activations of outlier features.
/// @throws Error as quantize_activations and Ranks
[[nodiscard]] GatheredActivations gather_activations(Context& context, Ranks& ranks,
                                                     const Linear& layer, MatrixView<const float> x,
                                                     const std::vector<std::int64_t>& widths);

}  // namespace kvant::detail
