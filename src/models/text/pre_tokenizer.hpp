#pragma once

// Splitting text into the pieces that BPE works on, as the "pre_tokenizer" of tokenizer.json says:
// Digits and ByteLevel, alone or in a Sequence.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/regex.hpp"

namespace kvant::models {

class PreTokenizer {
 public:
  /// @throws Error unsupported for what is not Digits, ByteLevel or a Sequence of them
  PreTokenizer(const nlohmann::json& json, const std::string& file);

  /// Pieces of valid UTF-8 text, in order. Each step splits every stretch that the step before it
  /// left, on its own: a look-ahead sees the end of the stretch.
  [[nodiscard]] std::vector<std::string> split(std::string_view text) const;

 private:
  struct Step {
    Regex pattern;

    bool split = true;  ///< false: ByteLevel with use_regex = false
    bool add_prefix_space = false;
  };
  void add_step(const nlohmann::json& json, const std::string& file);

  std::vector<Step> steps_;
};

}  // namespace kvant::models
