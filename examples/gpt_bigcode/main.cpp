// gpt_bigcode: runs a GPTBigCode language model with its linear layers in fp32, bf16 or int8.
//
// Exit codes: 0, 1 (a file, the model or the machine), 2 (the command line); every error is one
// line on stderr.

#include <unistd.h>

#include <fmt/core.h>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <kvant/context.hpp>
#include <kvant/io/atomic_file.hpp>
#include <kvant/io/safetensors_writer.hpp>
#include <kvant/io/text_file.hpp>
#include <kvant/models/generate.hpp>
#include <kvant/models/load.hpp>
#include <kvant/models/tokenizer.hpp>
#include <kvant/models/utf8.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "options.hpp"

namespace gpt_bigcode {
namespace {

using kvant::io::read_text_file;

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

/// One run: the model and what is needed around it.
class Session {
 public:
  explicit Session(const Options& options)
      : options_(options),
        config_(load_config(options.model / "config.json")),
        plan_(make_plan(config_, options.request)),
        context_(kvant::ContextOptions{.threads = options.threads}) {
    if (options.prompt || options.perplexity || options.calibrate) {
      tokenizer_.emplace(options.model / "tokenizer.json");
    }
    if (options.prompt) prompt_ids_ = tokenizer_->encode(*options.prompt);
    if (options.ids) prompt_ids_ = *options.ids;
    // An empty prompt is the beginning of a text.
    if (prompt_ids_.empty() && options.generates()) prompt_ids_ = {bos()};
    if (options.perplexity) evaluation_ids_ = ids_of_file(*options.perplexity);
    load();
    report_["scheme"] = to_string(plan_.scheme);
    report_["mode"] = plan_.mode == kvant::Arithmetic::bitsandbytes ? "bitsandbytes" : "default";
    report_["threshold"] = plan_.threshold;
    report_["isa"] = context_.isa();
    report_["threads"] = context_.executor().concurrency();
    report_["weight_bytes"] = model_.weight_bytes();
  }

  void run() {
    if (options_.perplexity) run_perplexity();
    if (options_.logits) run_logits();
    if (options_.generates()) run_generation();
    if (options_.json) {
      kvant::io::AtomicFile file(*options_.json);
      file.write(report_.dump(1) + "\n");
      file.commit();
    }
  }

 private:
  [[nodiscard]] TokenId bos() const { return static_cast<TokenId>(config_.bos()); }

  [[nodiscard]] std::vector<TokenId> ids_of_file(const std::filesystem::path& path) const {
    std::vector<TokenId> ids = {bos()};
    const std::vector<TokenId> encoded = tokenizer_->encode(read_text_file(path));
    ids.insert(ids.end(), encoded.begin(), encoded.end());
    return ids;
  }

  void load() {
    LoadOptions load_options;
    load_options.plan = plan_;
    load_options.skip = options_.skip;
    if (options_.calibrate) {
      load_options.calibration_ids = ids_of_file(*options_.calibrate);
    } else if (plan_.calibrate) {
      load_options.calibration_ids = prompt_ids_;
    }
    const bool terminal = ::isatty(STDERR_FILENO) != 0;
    if (terminal) {
      load_options.progress = [](std::int64_t block, std::int64_t count) {
        fmt::print(stderr, "\rloading block {} of {}", block + 1, count);
      };
    }
    model_ = load_model(context_, options_.model, config_, load_options);
    if (terminal) fmt::print(stderr, "\r{:40}\r", "");
  }

  void run_perplexity() {
    const auto start = Clock::now();
    const Perplexity result =
        evaluate(context_, model_, evaluation_ids_, options_.window.value_or(config_.n_positions));
    report_["tokens_per_second"] =
        static_cast<double>(evaluation_ids_.size()) / seconds_since(start);
    report_["tokens"] = result.tokens;
    report_["nll"] = result.nll;
    report_["perplexity"] = result.perplexity;
    fmt::print("tokens      {}\nnll         {:.6f}\nperplexity  {:.6f}\n", result.tokens,
               result.nll, result.perplexity);
  }

  void run_logits() {
    Cache cache;
    const std::vector<float> hidden = forward(context_, model_, prompt_ids_, cache);
    const auto rows = static_cast<std::int64_t>(prompt_ids_.size());
    std::vector<float> logits(prompt_ids_.size() * static_cast<std::size_t>(config_.vocab_size));
    const kvant::MatrixView<float> view(logits.data(), rows, config_.vocab_size);
    compute_logits(context_, model_, {hidden.data(), rows, config_.n_embd}, view);
    kvant::io::SafeTensorsWriter writer;
    writer.add("logits", kvant::MatrixView<const float>(view));
    writer.write(*options_.logits);
    report_["prompt_ids"] = prompt_ids_;
  }

  /// Text is streamed as it comes; a run from --ids streams ids, because it has no tokenizer.
  void run_generation() {
    const bool as_text = options_.prompt.has_value();
    Utf8Stream stream;
    std::string text;
    const auto show = [&](const std::string& part) {
      text += part;
      fmt::print("{}", part);
      std::fflush(stdout);
    };
    bool first = true;
    const auto start = Clock::now();
    const std::vector<TokenId> generated =
        generate(context_, model_, prompt_ids_, options_.tokens, [&](TokenId id) {
          show(as_text ? stream.push(tokenizer_->token_bytes(id))
                       : (first ? "" : ",") + std::to_string(id));
          first = false;
        });
    const double seconds = seconds_since(start);
    if (as_text) show(stream.finish());
    fmt::print("\n");
    report_["tokens_per_second"] = static_cast<double>(generated.size()) / seconds;
    report_["prompt_ids"] = prompt_ids_;
    report_["generated_ids"] = generated;
    if (as_text) report_["text"] = text;
    if (::isatty(STDERR_FILENO) != 0) {
      fmt::print(stderr, "[{}, {}, {:.2f} MB of weights, {:.1f} tokens/s]\n",
                 to_string(plan_.scheme), context_.isa(),
                 static_cast<double>(model_.weight_bytes()) / 1e6,
                 static_cast<double>(generated.size()) / seconds);
    }
  }

  const Options& options_;
  Config config_;
  Plan plan_;
  kvant::Context context_;
  std::optional<Tokenizer> tokenizer_;
  std::vector<TokenId> prompt_ids_;
  std::vector<TokenId> evaluation_ids_;
  Model model_;
  nlohmann::ordered_json report_;
};

/// One line, whatever the message holds.
int fail(const char* message, int code) {
  std::string line(message);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) c = ' ';
  }
  fmt::print(stderr, "gpt_bigcode: {}\n", line);
  return code;
}

}  // namespace
}  // namespace gpt_bigcode

int main(int argc, char** argv) {
  using namespace gpt_bigcode;
  try {
    const std::optional<Options> options = parse_options(argc, argv);
    if (options) Session(*options).run();
    std::cout.flush();
    if (std::fflush(stdout) != 0 || !std::cout) return fail("cannot write to standard output", 1);
    return 0;
  } catch (const UsageError& error) {
    return fail(error.what(), 2);
  } catch (const RequestError& error) {
    return fail(error.what(), 2);
  } catch (const std::bad_alloc&) {
    return fail("out of memory", 1);
  } catch (const std::exception& error) {
    return fail(error.what(), 1);
  }
}
