#pragma once

/// @file
/// Reading safetensors files: validate everything once, then hand out views without copying.
///
///     kvant::io::SafeTensors file("model.safetensors");
///     auto w = file.matrix<kvant::float16>("transformer.h.0.mlp.c_fc.weight");
///
/// Every rule of the format is checked before the constructor returns: header length, UTF-8, JSON
/// without duplicate keys, known dtypes, checked shape products, and a data buffer tiled exactly by
/// the tensors. Sharded checkpoints: checkpoint.hpp. Writing: safetensors_writer.hpp.

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "kvant/config.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/tensor_file.hpp"

namespace kvant::io {

/// One file; see TensorFile for what it offers. metadata() is the header's "__metadata__".
class KVANT_API SafeTensors : public TensorFile {
 public:
  /// @throws FormatError for a file that breaks a rule, naming the tensor and the rule;
  ///         Error io where the operating system refuses, or the path is not a regular file
  explicit SafeTensors(const std::filesystem::path& path, LoadMode mode = LoadMode::map);
  /// The same checks on bytes in memory, which must outlive the object; nothing is copied.
  /// @param name stands for the file in messages
  static SafeTensors from_bytes(std::span<const std::byte> bytes, std::string name = "<memory>");

 private:
  SafeTensors(std::span<const std::byte> bytes, std::string name);
};

}  // namespace kvant::io
