#pragma once

// What is known about the layers of the models of transformers beyond the general rules of
// linear_rules.cpp, by config.json's model_type.

#include <string_view>

namespace kvant::io {

/// Lists are words with one blank between them.
struct KnownModel {
  /// Output heads by their full names, as the loaded model calls them, and as files do where these
  /// differ. They stay in float even where they are not in the file, being tied.
  std::string_view heads = "lm_head";
  std::string_view float_linears = {};  ///< ends of names that stay in float: "wo"
  std::string_view linears = {};        ///< ends of names that are linear against the general rules
  /// The loaded model has other names for its modules than the file.
  bool renamed = false;
  /// Also inside of blocks: no end of a name of the file can be relied on.
  bool renamed_inside = false;
  /// Ends of the names of Conv1D layers, which are stored as [in, out].
  std::string_view transposed = {};
};

/// Null for a model_type for which the rules were not compared with transformers.
[[nodiscard]] const KnownModel* find_known_model(std::string_view model_type) noexcept;

/// Whether `word` is in a list of words with one blank between them.
[[nodiscard]] bool has_word(std::string_view list, std::string_view word) noexcept;
/// Whether one of the words is the end of a name, after a dot or all of it.
[[nodiscard]] bool has_ending(std::string_view list, std::string_view name) noexcept;

}  // namespace kvant::io
