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
#include "kvant/models/layer_format.hpp"
#include "kvant/models/offload.hpp"
#include "kvant/models/plan.hpp"

namespace kvant::program {

struct RunOptions {
  std::filesystem::path model;
  models::Request request;
  std::optional<std::string> calibrate;
  std::vector<std::string> skip;
  std::optional<std::string> plan;  ///< a file, and what it says
  std::optional<models::FormatPlan> formats;
  std::optional<std::string> adapter;
  models::Offload offload;
  bool device_given = false;  ///< --device names one, or auto
  int threads = 0;            ///< 0: all
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
  std::optional<std::vector<models::TokenId>> decoder_ids;
  std::optional<std::string> logits;
  std::optional<std::string> hidden;
  std::optional<std::string> json;
  bool quiet = false;

  /// Flags that mean something to models that write text alone, as they were given; empty: none.
  std::string writing_flags;

  [[nodiscard]] bool generates() const {
    const bool writes_file = logits.has_value() || hidden.has_value();
    return (prompt.has_value() && (!hidden.has_value() || tokens_given)) || chat.has_value() ||
           (ids.has_value() && (!writes_file || tokens_given));
  }
};

/// Nothing: --help was asked for and printed. @throws UsageError
[[nodiscard]] std::optional<RunOptions> parse_run_options(const Arguments& arguments);

/// What this kind of model cannot do, before it is loaded. @throws models::RequestError
void check_kind(const RunOptions& options, const models::Config& config,
                const std::filesystem::path& model);

}  // namespace kvant::program
