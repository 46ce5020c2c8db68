#pragma once

// model.safetensors.index.json: which tensor is in which shard.

#include <cstddef>
#include <map>
#include <optional>
#include <span>
#include <string>

namespace kvant::io {

struct CheckpointIndex {
  std::map<std::string, std::string> weight_map;  ///< tensor -> plain file name
  std::optional<double> total_size;               ///< as written; good for a warning only
};

/// @param name of the file, for messages
/// @throws FormatError json, utf8, structure, duplicate, path
CheckpointIndex parse_checkpoint_index(std::span<const std::byte> text, const std::string& name);

}  // namespace kvant::io
