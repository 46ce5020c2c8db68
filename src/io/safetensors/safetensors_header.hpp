#pragma once

// The header of a safetensors file: bytes -> validated list of tensors.

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/tensor.hpp"

namespace kvant::io {

inline constexpr std::uint64_t kMaxSafeTensorsHeader = 100'000'000;
inline constexpr std::string_view kSafeTensorsMetadata = "__metadata__";

struct SafeTensorsHeader {
  std::vector<TensorInfo> tensors;  ///< sorted by (begin, end)
  std::map<std::string, std::string> metadata;
  std::size_t data_begin = 0;  ///< of the data buffer, from the start of the file
};

/// Checks all of a file's bytes against the format's rules.
/// @param name of the file, for messages
SafeTensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name);

}  // namespace kvant::io
