#pragma once

/// @file
/// Merging low-rank changes (LoRA) into the weights of a model folder, without ever holding the
/// model: memory is a few megabytes per thread, and the changes.

#include <filesystem>
#include <map>
#include <string>

#include "kvant/config.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/matrix.hpp"

namespace kvant::io {

/// What is added to a layer's weight [out, in]: scale * B A.
struct LowRankChange {
  Matrix<float> a;  ///< [rank, in]
  Matrix<float> b;  ///< [out, rank]
  float scale = 1.0f;
};

/// How merge_checkpoint goes about it.
struct MergeCheckpointOptions {
  /// Weights of model types that kvant does not know lie [in, out].
  bool transposed = false;
  bool dry_run = false;  ///< plan and check; write nothing
  JobOptions job = {};
};

/// Adds changes to weights, in fp32, rounded to the dtype that they are stored in; everything else
/// goes along as it is. The result appears whole or not at all.
/// @param changes by the layer's name; where the folder has no such layer, names with other
///        beginnings are tried ("model.layers.0.fc" and "layers.0.fc" are the same layer)
/// @return layers are those that were changed
/// @throws FormatError as Checkpoint does; Error shape_mismatch (no layer of a name, or more than
///         one; another shape), invalid_argument (two changes of a layer), unsupported (a quantized
///         model, a weight that is not F32, F16 or BF16), not_finite (a sum beyond the dtype),
///         out_of_range, io, cancelled
KVANT_API CheckpointSummary merge_checkpoint(const std::filesystem::path& model,
                                             const std::filesystem::path& output,
                                             const std::map<std::string, LowRankChange>& changes,
                                             const MergeCheckpointOptions& options = {});

}  // namespace kvant::io
