#pragma once

// llm_int8_skip_modules: which modules transformers keeps in float. An entry is a regular
// expression for the beginning of a module's name, up to a dot or the end of it; or it is the end
// of the name, wherever that begins: "lm_head" also keeps "lm_head.dense", "proj" also keeps
// "blocks.0.attn.proj".

#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"

namespace kvant::io {

/// Whether an entry keeps a module in float. Nothing: the entry has parts of regular expressions
/// that are not looked into here (groups, classes, counts), and does not end the name as it is.
[[nodiscard]] KVANT_API std::optional<bool> skips(std::string_view entry, std::string_view module);

/// What a list must do.
struct SkipTask {
  std::set<std::string> keep;       ///< modules that stay in float, by the names of the file
  std::set<std::string> quantized;  ///< modules that must not be kept
  /// The loaded model may have other names: entries are added that are ends of names only.
  bool renamed = false;
};

/// Ascending entries, which keep all that must be kept and nothing that is quantized. Names as they
/// are wherever that is so, since older versions of transformers know no expressions.
[[nodiscard]] std::vector<std::string> make_skip_modules(const SkipTask& task);

}  // namespace kvant::io
