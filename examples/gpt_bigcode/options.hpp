#pragma once

// The command line of gpt_bigcode.

#include <cstdint>
#include <filesystem>
#include <kvant/error.hpp>
#include <kvant/models/load.hpp>
#include <optional>
#include <string>
#include <vector>

namespace gpt_bigcode {

using namespace kvant::models;

/// Words that make no sense.
class UsageError : public kvant::Error {
 public:
  explicit UsageError(const std::string& message)
      : kvant::Error(kvant::ErrorCode::invalid_argument, message) {}
};

struct Options {
  std::filesystem::path model;
  Request request;
  std::optional<std::filesystem::path> calibrate;
  std::vector<std::string> skip;
  int threads = 0;  ///< 0: all
  std::optional<std::string> prompt;
  std::optional<std::vector<TokenId>> ids;
  std::int64_t tokens = 64;
  bool tokens_given = false;
  std::optional<std::filesystem::path> perplexity;
  std::optional<std::int64_t> window;
  std::optional<std::filesystem::path> logits;
  std::optional<std::filesystem::path> json;

  [[nodiscard]] bool generates() const {
    return prompt.has_value() || (ids.has_value() && (!logits.has_value() || tokens_given));
  }
};

/// Empty: --help was asked for and printed.
/// @throws UsageError for everything that is wrong with the words themselves
std::optional<Options> parse_options(int argc, char** argv);

/// "1,7,42"
/// @throws UsageError
std::vector<TokenId> parse_ids(const std::string& text);

}  // namespace gpt_bigcode
