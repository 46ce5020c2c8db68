#pragma once

// From options and a model to what will be done with each tensor.

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "io/checkpoint/checkpoint_source.hpp"
#include "kvant/io/convert_checkpoint.hpp"
#include "kvant/io/quantize_checkpoint.hpp"

namespace kvant::io {

struct QuantizePlan {
  std::vector<std::unique_ptr<TensorJob>> jobs;
  std::vector<TensorSpec> outputs;
  std::map<std::string, std::string> metadata;  ///< of the result's files
  std::string config;                           ///< the result's config.json
  CheckpointSummary summary;                    ///< shards are not filled in
};

/// @throws as quantize_checkpoint, as far as it can be known without the weights
QuantizePlan plan_quantization(const CheckpointSource& source,
                               const QuantizeCheckpointOptions& options);

/// @throws as dequantize_checkpoint
QuantizePlan plan_dequantization(const CheckpointSource& source,
                                 const DequantizeCheckpointOptions& options);

/// @throws as convert_checkpoint
QuantizePlan plan_conversion(const CheckpointSource& source,
                             const ConvertCheckpointOptions& options);

/// Writes what was planned, unless it is a dry run.
CheckpointSummary carry_out(const CheckpointSource& source, QuantizePlan plan,
                            const std::filesystem::path& output, const JobOptions& options,
                            bool dry_run);

/// What config.json says of the quantized layers, as far as reading them depends on it: a group
/// size that is not the file's would give wrong weights.
/// @throws FormatError structure
void check_quantization_config(const CheckpointSource& source,
                               const std::vector<StoredLayer>& layers);

/// F32, F16 or BF16.
[[nodiscard]] bool is_convertible(DType dtype);

}  // namespace kvant::io
