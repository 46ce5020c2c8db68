#pragma once

/// @file
/// What a checkpoint holds: tensors, dtypes, shapes, bytes, the form of each linear layer, and the
/// model's footprint as it is and as it would be in other types.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/footprint.hpp"
#include "kvant/io/stored_layer.hpp"

namespace kvant::look {

/// Tensors, linear layers and footprint of a checkpoint.
struct CheckpointContents {
  std::string path;
  std::string model_type;               ///< of config.json; empty where there is none
  std::vector<std::string> files;       ///< names, in the order of their tensors
  std::uint64_t file_bytes = 0;         ///< of all files, headers included
  std::vector<io::TensorInfo> tensors;  ///< in natural order of their names
  std::vector<io::StoredLayer> layers;  ///< the linear layers
  std::uint64_t elements = 0;           ///< of parameters; those of packed codes counted one by one
  io::Footprint stored;                 ///< bytes as stored
  io::Footprint float32;                ///< all floating-point tensors in float32
  io::Footprint bfloat16;
  /// Floating linear layers in each quantized format that checkpoints are written in.
  std::vector<std::pair<WeightFormat, io::Footprint>> quantized;
  std::map<std::string, std::string> metadata;
  std::vector<io::Warning> warnings;
};

/// Opens a checkpoint (a folder, a .safetensors file, an index) with all checks of the reader. The
/// elements themselves are not read.
/// @throws FormatError, Error io
[[nodiscard]] KVANT_API CheckpointContents inspect_checkpoint(const std::filesystem::path& path);

/// An aligned table of the tensors, the linear layers by form, and the footprint.
[[nodiscard]] KVANT_API std::string to_text(const CheckpointContents& contents);
/// One JSON object; sizes in bytes.
[[nodiscard]] KVANT_API std::string to_json(const CheckpointContents& contents);

}  // namespace kvant::look
