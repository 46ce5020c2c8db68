#pragma once

// The quantized layers of a model's folder, and their weights.

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "kvant/io/checkpoint.hpp"
#include "kvant/io/layer_reader.hpp"
#include "support/catch.hpp"

namespace kvant::test {

inline std::vector<io::StoredLayer> layers_of(const std::filesystem::path& model,
                                              const io::Checkpoint& file) {
  auto layers = io::find_linear_layers(file, io::model_hints_of(model));
  std::erase_if(layers, [](const auto& layer) { return !layer.quantized(); });
  return layers;
}

/// [outputs, inputs], in pieces of 7 rows.
inline std::vector<float> weights_of(const io::Checkpoint& file, const io::StoredLayer& layer) {
  std::vector<float> values(static_cast<std::size_t>(layer.elements()));
  const io::LayerReader reader(file, layer);
  for (std::int64_t row = 0; row < layer.outputs; row += 7) {
    reader.read(row, std::min<std::int64_t>(7, layer.outputs - row),
                values.data() + row * layer.inputs);
  }
  return values;
}

/// Whether a message says something; checked, with the message where it does not.
inline bool has(const std::string& text, const std::string& part) {
  INFO(text);
  const bool found = text.find(part) != std::string::npos;
  CHECK(found);
  return found;
}

}  // namespace kvant::test
