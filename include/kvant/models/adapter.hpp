#pragma once

/// @file
/// LoRA adapters in PEFT's form (adapter_config.json, adapter_model.safetensors): read, run beside
/// a model in any scheme (LoadOptions::adapter), or merged into its floats.

#include <filesystem>
#include <map>
#include <string>

#include "kvant/config.hpp"
#include "kvant/io/merge_checkpoint.hpp"

namespace kvant::models {

/// An adapter's layers, in float32.
struct AdapterWeights {
  std::filesystem::path folder;
  /// Full module name of the model -> what is added to its weight.
  std::map<std::string, io::LowRankChange> layers;
  bool fan_in_fan_out = false;  ///< the weights that it is for lie [in, out]
};

/// @throws Error io; invalid_file (shapes that do not fit, a layer that target_modules does not
///         name, ...); unsupported, by name: what is no plain LoRA (DoRA, modules_to_save, biases,
///         alpha_pattern, initializations that change the model's own weights, ...)
[[nodiscard]] KVANT_API AdapterWeights load_adapter(const std::filesystem::path& folder);

/// Writes the model with the adapter in its weights: W + scale * B A.
/// @throws Error as load_adapter and io::merge_checkpoint
KVANT_API io::CheckpointSummary merge_adapter(const std::filesystem::path& model,
                                              const std::filesystem::path& adapter,
                                              const std::filesystem::path& output,
                                              io::MergeCheckpointOptions options = {});

}  // namespace kvant::models
