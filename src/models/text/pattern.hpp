#pragma once

// Patterns of tokenizer.json, {"String": ...} or {"Regex": ...}, as PCRE2 reads them.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "models/text/regex.hpp"

namespace kvant::models {

/// The member "pattern". @throws Error invalid_file: neither of the two forms
[[nodiscard]] std::string pattern_of(const nlohmann::json& json, const std::string& file);

/// The reference's regular expressions (Oniguruma) in PCRE2's words: \s is Unicode's White_Space,
/// to which PCRE2's own adds U+180E.
[[nodiscard]] std::string to_pcre(std::string_view pattern);

}  // namespace kvant::models
