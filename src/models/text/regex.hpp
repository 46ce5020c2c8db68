#pragma once

// A PCRE2 pattern over UTF-8 text with Unicode classes. Copies share their match buffer: one thread
// at a time.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace kvant::models {

class Regex {
 public:
  /// @throws Error invalid_argument for a pattern that does not compile
  explicit Regex(const std::string& pattern);

  struct Match {
    std::size_t begin;
    std::size_t end;
  };
  /// The first match at or after `from`; begin == npos if there is none. The text must be valid
  /// UTF-8 and `from` the start of a character.
  /// @throws Error unsupported where PCRE2 gives up (its limits)
  [[nodiscard]] Match find(std::string_view text, std::size_t from) const;
  /// Whether a match begins exactly at `at`.
  [[nodiscard]] bool matches_at(std::string_view text, std::size_t at) const;

  static constexpr std::size_t npos = std::string_view::npos;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
};

}  // namespace kvant::models
