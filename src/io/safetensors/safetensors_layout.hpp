#pragma once

// The layout of a safetensors file as the reference writer chooses it: order of the tensors, their
// offsets, and the header's bytes, all from names, dtypes and shapes.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "kvant/io/tensor.hpp"

namespace kvant::io {

struct SafeTensorsLayout {
  std::string header;              ///< length word and padded JSON
  std::vector<std::size_t> order;  ///< indices into the given tensors, in their order in the file
  std::vector<std::uint64_t> offsets;  ///< of each given tensor, from the start of the file
  std::vector<std::uint64_t> bytes;    ///< of each given tensor
  std::uint64_t file_size = 0;
};

/// @throws Error invalid_argument: the name "__metadata__" (such a file cannot be read), a name
///         that is there twice, text that is not UTF-8; unsupported: a dtype that the format has
///         no name for; out_of_range: a header above the format's limit
SafeTensorsLayout plan_safetensors(const std::vector<TensorSpec>& tensors,
                                   const std::map<std::string, std::string>& metadata);

}  // namespace kvant::io
