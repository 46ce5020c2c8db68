#pragma once

// Splitting text into the pieces that become tokens, as the "pre_tokenizer" of tokenizer.json says:
// Digits, Split, ByteLevel, Metaspace, WhitespaceSplit, BertPreTokenizer, alone or in a Sequence.

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "models/text/regex.hpp"

namespace kvant::models {

class PreTokenizer {
 public:
  /// null: text stays one piece.
  /// @throws Error unsupported for other kinds, invalid_file
  PreTokenizer(const nlohmann::json& json, const std::string& file);

  /// Pieces of valid UTF-8 text, in order. Each step splits every stretch that the step before it
  /// left, on its own: a look-ahead sees the end of the stretch.
  /// @param beginning the text is the beginning of what is encoded
  [[nodiscard]] std::vector<std::string> split(std::string_view text, bool beginning = true) const;

  /// Pieces are to be spelled in the byte alphabet.
  [[nodiscard]] bool byte_level() const { return byte_level_; }
  /// What spaces have become in pieces; empty: they are spaces.
  [[nodiscard]] const std::string& space() const { return space_; }

 private:
  /// What becomes of a match of the pattern.
  enum class Match { piece, removed, joins_next };
  struct Step {
    Regex pattern;

    bool split = true;  ///< false: only the prefix and the spaces
    Match match = Match::piece;
    std::string prefix = {};      ///< of the stretch, if it does not begin with it
    bool only_beginning = false;  ///< ... of what is encoded
    std::string space = {};       ///< what spaces become
  };
  void add_step(const nlohmann::json& json, const std::string& file);
  void add_split(const nlohmann::json& json, const std::string& file);
  void add_metaspace(const nlohmann::json& json, const std::string& file);

  std::vector<Step> steps_;
  bool byte_level_ = false;
  std::string space_;
};

}  // namespace kvant::models
