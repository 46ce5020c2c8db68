#pragma once

// SentencePiece's compiled normalization rules ("precompiled_charsmap"): a double-array trie of
// darts-clone over the texts that are replaced, and the texts that they become.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kvant::models {

class Charsmap {
 public:
  /// @param bytes size of the trie in bytes (little-endian, 32 bits), the trie, then UTF-8 texts
  ///        that end with 0; empty: there are no rules
  /// @param file for messages
  /// @throws Error invalid_file
  Charsmap(std::string_view bytes, const std::string& file);

  /// Valid UTF-8 in and out. As the reference does it: what the beginning of a user-perceived
  /// character (a grapheme of less than 6 bytes) has a rule for replaces all of it; else each code
  /// point is looked up.
  [[nodiscard]] std::string apply(std::string_view text) const;

 private:
  /// What the shortest beginning of `key` that has a rule becomes.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const;

  std::vector<std::uint32_t> trie_;
  std::string texts_;
};

}  // namespace kvant::models
