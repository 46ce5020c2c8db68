#pragma once

// Some outputs of a layer, with the scales that are theirs: what a rank holds of it.

#include <cstdint>
#include <span>
#include <vector>

#include "kvant/context.hpp"
#include "kvant/packed_weights.hpp"
#include "kvant/ranks.hpp"

namespace kvant::models {

/// Outputs that share scales with each other, at most: what is quantized without its neighbours
/// must begin and end at multiples of it. 1: every output has its own.
/// @param block weights that share a scale; 0: the format's own
[[nodiscard]] std::int64_t outputs_sharing_scales(WeightFormat format, std::int64_t inputs,
                                                  std::int64_t block);

/// The scales and zero points of some outputs, in place of those of all.
/// @throws Error unsupported: a block of the flattened weight that begins in an output before
void take_scales(WeightFormat format, std::int64_t inputs, std::int64_t block,
                 const std::vector<Share>& rows, std::vector<float>& scales,
                 std::vector<std::uint8_t>& zero_points);

/// Packed weights of some outputs, in this order, without a change to any value.
/// @throws Error as take_scales
[[nodiscard]] PackedWeights take_rows(Context& context, const PackedWeights& weights,
                                      const std::vector<Share>& rows);

/// The same of several weights of one format and shape of rows: rows[i] of weights[i].
[[nodiscard]] PackedWeights join_rows(Context& context, std::span<const PackedWeights> weights,
                                      const std::vector<Share>& rows);

}  // namespace kvant::models
