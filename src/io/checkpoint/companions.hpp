#pragma once

// The files of a model folder that a converted model takes along.

#include <filesystem>
#include <string>
#include <vector>

namespace kvant::io {

struct Companions {
  std::vector<std::filesystem::path> files;  ///< relative to the model's folder, ascending
  /// What stays behind, for a message: "pytorch_model.bin (weights in another format)".
  std::vector<std::string> left;
};

/// Everything goes along, folders with their files too, but weights in other formats, what
/// describes another quantization, other checkpoints, and what is hidden. A link goes along as the
/// file that it leads to, which must be in the model's folder or among the blobs of the Hugging
/// Face cache.
/// @param output what is being written, which may be inside the model's folder
/// @throws Error io: a link that leads elsewhere or nowhere
[[nodiscard]] Companions find_companions(const std::filesystem::path& model,
                                         const std::filesystem::path& output);

}  // namespace kvant::io
