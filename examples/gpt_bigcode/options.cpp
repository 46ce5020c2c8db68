#include "options.hpp"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <iostream>
#include <limits>

namespace gpt_bigcode {
namespace {

constexpr const char* kDescription =
    "Example:\n"
    "  gpt_bigcode examples/models/tiny-code-model/model --scheme llm-int8 \\\n"
    "              --prompt 'template <typename T>' --tokens 40\n\n"
    "Runs a GPTBigCode language model (StarCoder, SantaCoder, ...) from a folder in Hugging Face\n"
    "form, with its linear layers in floating point or in int8.\n";

constexpr std::int64_t kMaxTokens = 1'000'000'000;

template <class T>
void check_range(const char* name, T value, T low, T high) {
  if (value >= low && value <= high) return;
  throw UsageError(std::string(name) + " is " + std::to_string(value) + ", not from " +
                   std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace

std::vector<TokenId> parse_ids(const std::string& text) {
  std::vector<TokenId> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (true) {
    TokenId id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && *next != ',')) {
      throw UsageError("--ids " + text.substr(0, 60) +
                       ": not a list of ids like 1,7,42 (at character " +
                       std::to_string(at - text.data()) + ")");
    }
    ids.push_back(id);
    if (next == end) return ids;
    at = next + 1;
  }
}

std::optional<Options> parse_options(int argc, char** argv) {
  Options options;
  std::string model;
  std::string scheme;
  std::string mode;
  std::string arithmetic;
  std::int64_t group = 0;
  std::string calibrate;
  std::string ids;
  std::string perplexity;
  std::string logits;
  std::string json;
  std::string prompt;
  float threshold = 0;
  std::int64_t window = 0;

  CLI::App app(kDescription, "gpt_bigcode");
  app.add_option("MODEL_DIR", model, "config.json, safetensors file(s), tokenizer.json")
      ->required();
  app.add_option("--scheme", scheme,
                 "linear layers in " + scheme_names() +
                     "\n(default: fp32; for a quantized folder stored, its layers as they are, or\n"
                     "llm-int8 where they are 8-bit ones of bitsandbytes)")
      ->type_name("NAME");
  auto* mode_option =
      app.add_option("--mode", mode,
                     "default, or bitsandbytes: that library's arithmetic, bit for bit")
          ->type_name("NAME");
  auto* arithmetic_option = app.add_option("--arithmetic", arithmetic,
                                           "stored, int8-group, and schemes of up to 4 bits: int8 "
                                           "(default); int15: activations of\n"
                                           "15 bits, no outliers; or exact: they stay in float")
                                ->type_name("NAME");
  auto* group_option =
      app.add_option("--group", group,
                     "schemes with groups: weights that share a scale, a multiple of 32\n"
                     "(default: 64; int8-group 128)")
          ->type_name("N");
  auto* threshold_option =
      app.add_option("--threshold", threshold,
                     "inputs of at least this magnitude are outliers (default: 6, or\n"
                     "what the folder says; 0: none)")
          ->type_name("T");
  auto* calibrate_option = app.add_option("--calibrate", calibrate,
                                          "text that shows llm-int8 the outlier features while\n"
                                          "loading (default: the prompt, else random ids)")
                               ->type_name("FILE");
  app.add_option("--skip", options.skip,
                 "keep linear layers in float whose full name matches, e.g. '*.h.0.*';\n"
                 "may be repeated")
      ->type_name("PATTERN")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  auto* threads_option =
      app.add_option("--threads", options.threads, "threads (default: all)")->type_name("N");
  auto* prompt_option =
      app.add_option("--prompt", prompt, "continue this text, greedily")->type_name("TEXT");
  auto* ids_option =
      app.add_option("--ids", ids, "ids like 1,7,42 in place of a prompt; needs no tokenizer")
          ->type_name("LIST");
  auto* tokens_option =
      app.add_option("--tokens", options.tokens, "ids to generate (default: 64)")->type_name("N");
  auto* perplexity_option =
      app.add_option("--perplexity", perplexity, "measure how well the model predicts a text")
          ->type_name("FILE");
  auto* window_option =
      app.add_option("--window", window, "ids per call there (default: n_positions)")
          ->type_name("N");
  auto* logits_option =
      app.add_option("--logits", logits, "write the logits of --ids as tensor \"logits\"")
          ->type_name("OUT");
  auto* json_option =
      app.add_option("--json", json, "write everything that was found as one object")
          ->type_name("FILE");
  prompt_option->excludes(ids_option);
  logits_option->needs(ids_option);
  window_option->needs(perplexity_option);

  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return std::nullopt;
  } catch (const CLI::ParseError& error) {
    throw UsageError(error.what());
  }

  options.model = model;
  if (!scheme.empty()) {
    options.request.scheme = scheme_from_name(scheme);
    if (!options.request.scheme) {
      throw UsageError("--scheme " + scheme.substr(0, 60) + " is not one of " + scheme_names());
    }
  }
  if (mode_option->count() > 0) {
    if (mode != "default" && mode != "bitsandbytes") {
      throw UsageError("--mode " + mode.substr(0, 60) + " is not default or bitsandbytes");
    }
    options.request.mode =
        mode == "default" ? kvant::Arithmetic::kvant : kvant::Arithmetic::bitsandbytes;
  }
  if (arithmetic_option->count() > 0) {
    options.request.arithmetic = kvant::models::arithmetic_from_name(arithmetic);
    if (!options.request.arithmetic) {
      throw UsageError("--arithmetic " + arithmetic.substr(0, 60) + " is not exact, int8 or int15");
    }
  }
  if (group_option->count() > 0) options.request.group = group;
  if (threshold_option->count() > 0) {
    if (!(threshold >= 0)) {
      throw UsageError("--threshold " + std::to_string(threshold) + " is not a number from 0 up");
    }
    options.request.threshold = threshold;
  }
  if (calibrate_option->count() > 0) {
    options.calibrate = calibrate;
    options.request.calibration_text = true;
  }
  if (threads_option->count() > 0) check_range("--threads", options.threads, 1, 1024);
  check_range("--tokens", options.tokens, std::int64_t{0}, kMaxTokens);
  options.tokens_given = tokens_option->count() > 0;
  if (prompt_option->count() > 0) options.prompt = prompt;
  if (ids_option->count() > 0) options.ids = parse_ids(ids);
  if (perplexity_option->count() > 0) options.perplexity = perplexity;
  if (window_option->count() > 0) {
    check_range("--window", window, std::int64_t{2}, kMaxTokens);
    options.window = window;
  }
  if (logits_option->count() > 0) options.logits = logits;
  if (json_option->count() > 0) options.json = json;
  if (!options.prompt && !options.ids && !options.perplexity) {
    throw UsageError("nothing to do: give --prompt, --ids or --perplexity");
  }
  return options;
}

}  // namespace gpt_bigcode
