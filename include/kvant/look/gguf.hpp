#pragma once

/// @file
/// What a GGUF file holds. verify_checkpoint and report_checkpoint take GGUF files as they are.

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::look {

/// Metadata and tensors of a GGUF file.
struct GgufContents {
  /// One tensor.
  struct Tensor {
    std::string name;
    std::string_view type;             ///< "Q4_0"
    std::vector<std::uint64_t> shape;  ///< the last dimension is contiguous
    std::uint64_t elements = 0;
    std::uint64_t bytes = 0;
  };
  /// All tensors of a type.
  struct Group {
    std::size_t tensors = 0;
    std::uint64_t elements = 0;
    std::uint64_t bytes = 0;
  };
  std::string path;
  std::string architecture;  ///< general.architecture; empty: the file does not say
  std::uint64_t file_bytes = 0;
  std::vector<Tensor> tensors;              ///< in natural order of their names
  std::map<std::string_view, Group> types;  ///< by type
  std::uint64_t elements = 0;               ///< of all tensors
  std::uint64_t bytes = 0;                  ///< of all tensors
  /// Keys in the order of the file; of arrays how long they are, of long texts the beginning.
  std::vector<std::pair<std::string, std::string>> metadata;
};

/// Opens a GGUF file with all checks of the reader. The elements themselves are not read.
/// @throws FormatError, Error io
[[nodiscard]] KVANT_API GgufContents inspect_gguf(const std::filesystem::path& path);

/// The metadata, an aligned table of the tensors, and one of the types.
[[nodiscard]] KVANT_API std::string to_text(const GgufContents& contents);
/// One JSON object; sizes in bytes.
[[nodiscard]] KVANT_API std::string to_json(const GgufContents& contents);

}  // namespace kvant::look
