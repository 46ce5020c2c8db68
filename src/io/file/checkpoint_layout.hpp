#pragma once

// What the files of a model folder are, told by their names.

#include <filesystem>
#include <optional>
#include <string_view>
#include <vector>

namespace kvant::io {

inline constexpr const char* kSingleFile = "model.safetensors";
inline constexpr const char* kIndexFile = "model.safetensors.index.json";

/// What a file of a model folder is for.
enum class FileRole : unsigned char {
  weights,             ///< model.safetensors, its shards and index: what a conversion writes anew
  config,              ///< config.json, written anew too
  other_weights,       ///< weights in other formats, or of other models; state of a training
  other_quantization,  ///< describes a quantization that the result does not have
  companion,           ///< tokenizer, settings, code, licence: of the layout by its name
  unknown,             ///< anything else
};

/// @param name relative to the model's folder
[[nodiscard]] FileRole role_of(const std::filesystem::path& name);

/// Whether a folder has a model.safetensors or its index.
[[nodiscard]] bool holds_checkpoint(const std::filesystem::path& folder);

/// Whether a path is a folder or lies below it, by their parts alone.
[[nodiscard]] bool is_inside(const std::filesystem::path& inner,
                             const std::filesystem::path& outer);

/// The first file in a folder (or anywhere below it) that is neither of the layout by its name nor
/// one of those that are given; relative to the folder. Nothing: there is none.
[[nodiscard]] std::optional<std::filesystem::path> find_strange_file(
    const std::filesystem::path& folder, const std::vector<std::filesystem::path>& known);

}  // namespace kvant::io
