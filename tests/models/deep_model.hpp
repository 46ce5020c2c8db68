#pragma once

// A model much larger than one of its blocks, to see how much memory a program takes for it.

#include <cstddef>
#include <filesystem>
#include <fstream>
#include <span>
#include <string>

#include "models/model_builder.hpp"

namespace kvant::test {

/// Writes a folder of `layers` blocks of width 512 in float32, 12 MB each, all from the same
/// values.
/// @return bytes of a block
inline std::size_t write_deep_model(const std::filesystem::path& folder, int layers, int vocabulary,
                                    int positions) {
  TestModel model;
  model.config["n_embd"] = 512;
  model.config["n_inner"] = 2048;
  model.config["n_layer"] = 1;
  model.config["n_head"] = 8;
  model.config["vocab_size"] = vocabulary;
  model.config["n_positions"] = positions;
  model.fill();
  model.config["n_layer"] = layers;
  std::ofstream(folder / "config.json") << model.config.dump();
  std::size_t block = 0;
  io::SafeTensorsWriter writer;
  for (const auto& [name, tensor] : model.tensors) {
    const std::string first = "transformer.h.0.";
    const bool in_block = name.find(first) == 0;
    if (in_block) block += tensor.values.size() * sizeof(float);
    for (int n = 0; n < (in_block ? layers : 1); ++n) {
      const std::string renamed =
          in_block ? "transformer.h." + std::to_string(n) + "." + name.substr(first.size()) : name;
      writer.add(renamed, DType::float32, tensor.shape, std::as_bytes(std::span(tensor.values)));
    }
  }
  writer.write(folder / "model.safetensors");
  return block;
}

}  // namespace kvant::test
