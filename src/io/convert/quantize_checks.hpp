#pragma once

// What quantize_checkpoint asks of options about single layers, and warns of.

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_source.hpp"
#include "io/layers/stored_format.hpp"
#include "kvant/io/quantize_checkpoint.hpp"

namespace kvant::io {

/// The static scale of a layer's activations.
/// @throws Error invalid_argument: there is none, or it is no number above 0, or the form has none
[[nodiscard]] float input_scale_of(const std::string& layer,
                                   const QuantizeCheckpointOptions& options,
                                   const StoredFormat& form);
/// Columns to keep ascend and are the layer's. @throws Error invalid_argument
void check_kept_columns(const std::string& layer, const std::vector<std::int64_t>& columns,
                        std::uint64_t inputs);
/// The weights of experts, which a reader may expect to become smaller.
void warn_of_experts(const CheckpointSource& source, const std::set<std::string>& quantized,
                     std::vector<Warning>& warnings);

}  // namespace kvant::io
