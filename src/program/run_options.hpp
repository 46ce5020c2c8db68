#pragma once

// The command line of kvant run.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "commands.hpp"
#include "kvant/models/chat.hpp"
#include "kvant/models/generate.hpp"
#include "kvant/models/plan.hpp"

namespace kvant::program {

struct RunOptions {
  std::filesystem::path model;
  models::Request request;
  std::optional<std::string> calibrate;
  std::vector<std::string> skip;
  int threads = 0;  ///< 0: all
  std::optional<std::string> prompt;
  std::optional<std::string> chat;
  std::optional<std::string> system;
  std::optional<models::ChatForm> form;
  std::optional<std::vector<models::TokenId>> ids;
  std::int64_t tokens = 64;
  bool tokens_given = false;
  models::Sampling sampling;
  models::KvFormat kv = models::KvFormat::fp32;
  bool ignore_eos = false;
  std::optional<std::string> perplexity;
  std::optional<std::int64_t> window;
  std::optional<std::string> logits;
  std::optional<std::string> json;
  bool quiet = false;

  [[nodiscard]] bool generates() const {
    return prompt.has_value() || chat.has_value() ||
           (ids.has_value() && (!logits.has_value() || tokens_given));
  }
};

/// Nothing: --help was asked for and printed. @throws UsageError
[[nodiscard]] std::optional<RunOptions> parse_run_options(const Arguments& arguments);

}  // namespace kvant::program
