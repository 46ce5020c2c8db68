#pragma once

// The quantization_config of compressed-tensors (llm-compressor, vLLM).

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "io/layers/compressed_inputs.hpp"
#include "io/layers/scaled_elements.hpp"
#include "io/layers/stored_format.hpp"

namespace kvant::io {

/// What the section says of a layer.
struct CompressedWeights {
  std::int64_t bits = 0;        ///< 0: not known
  std::int64_t group_size = 0;  ///< 0: not said; -1: one group a row
  SaidBlocks blocks = {};       ///< block_structure, or the group size
  InputScales inputs = InputScales::unsaid;

  bool operator==(const CompressedWeights&) const = default;
};
/// Of the group of config_groups whose targets name the layer, else of all whose targets are
/// classes
/// ("Linear") or expressions, where these agree; else nothing.
[[nodiscard]] CompressedWeights compressed_weights_of(const nlohmann::json& section,
                                                      const std::string& layer);

/// What is wrong with the section.
/// @param layers that are stored in one of the two forms
/// @param packed that form is pack-quantized, which also says what is wrong for all layers
void check_compressed_config(const nlohmann::json& section, const std::set<std::string>& layers,
                             bool packed, const ConfigErrors& error);

/// The section of a model whose layers are stored in one way.
/// @param format of the section, e.g. "float-quantized"
/// @param inputs how activations are quantized; null: they are not
[[nodiscard]] nlohmann::ordered_json compressed_config(const char* format,
                                                       nlohmann::ordered_json weights,
                                                       nlohmann::ordered_json inputs,
                                                       const std::vector<std::string>& ignored);

}  // namespace kvant::io
