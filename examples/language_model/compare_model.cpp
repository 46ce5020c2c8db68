// compare_model: a language model, from a folder or a GGUF file, in every scheme, and as others
// have quantized it: perplexity beside what others measured, bytes, tokens per second, and an
// answer by the smallest that is as good as the floats.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <kvant/context.hpp>
#include <kvant/io/text_file.hpp>
#include <kvant/models/chat.hpp>
#include <kvant/models/generate.hpp>
#include <kvant/models/load.hpp>
#include <kvant/models/model_files.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace {

using namespace kvant::models;
using kvant::Arithmetic;
using Clock = std::chrono::steady_clock;

struct Task {
  std::filesystem::path model;
  std::filesystem::path text;
  std::filesystem::path peers;    ///< figures of others; empty: none
  std::vector<std::string> more;  ///< NAME=MODEL: the same model, quantized in another way
  std::int64_t window = 512;
  std::int64_t tokens = 64;
  std::string question = "What is the capital of France?";
  int threads = 0;
};

/// A scheme, and for 4 bits the arithmetic; or another model as it is stored.
struct Choice {
  Scheme scheme;
  std::optional<Arithmetic> arithmetic = {};
  std::string label = {};  ///< of another model
  std::filesystem::path other = {};

  [[nodiscard]] std::string name() const {
    std::string name(label.empty() ? to_string(scheme) : label);
    if (arithmetic) name.append(", ").append(arithmetic_name(*arithmetic));
    return name;
  }
};

struct Row {
  Choice choice;
  double perplexity = 0;
  std::size_t bytes = 0;
  double read = 0;   ///< tokens per second, `window` at once
  double write = 0;  ///< one at a time behind them
};

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

Model load(kvant::Context& context, const ModelFiles& main, const Choice& choice) {
  std::optional<ModelFiles> others;
  if (!choice.other.empty()) others.emplace(choice.other);
  const ModelFiles& files = others ? *others : main;
  Request request;
  request.scheme = choice.scheme;
  request.arithmetic = choice.arithmetic;
  LoadOptions options;
  options.plan = make_plan(files.config(), request);
  return load_model(context, files.path(), files.config(), options);
}

Row measure(kvant::Context& context, const ModelFiles& files, const Task& task,
            const std::vector<TokenId>& ids, const Choice& choice) {
  const Model model = load(context, files, choice);
  Row row;
  row.choice = choice;
  row.bytes = model.weight_bytes();
  row.perplexity = evaluate(context, model, ids, task.window).perplexity;
  const auto length = std::min(ids.size(), static_cast<std::size_t>(task.window));
  const std::span<const TokenId> prompt = std::span(ids).first(length);
  Cache cache;
  cache.reserve(model.config, static_cast<std::int64_t>(length) + task.tokens);
  auto start = Clock::now();
  std::vector<float> hidden = prefill(context, model, prompt, cache);
  row.read = static_cast<double>(length) / seconds_since(start);
  Sampler sampler({});
  std::vector<float> logits(static_cast<std::size_t>(model.config.vocab_size));
  start = Clock::now();
  for (std::int64_t t = 0; t < task.tokens; ++t) {
    compute_logits(context, model, {hidden.data(), 1, model.config.n_embd},
                   {logits.data(), 1, model.config.vocab_size});
    const TokenId next = sampler.choose(logits);
    hidden = forward(context, model, {&next, 1}, cache);
  }
  row.write = static_cast<double>(task.tokens) / seconds_since(start);
  return row;
}

void print_row(const Row& row, const nlohmann::json& peers) {
  std::string others;
  if (const auto it = peers.find(to_string(row.choice.scheme));
      it != peers.end() && row.choice.label.empty()) {
    for (const auto& [name, figure] : it->items()) {
      others +=
          fmt::format("{}{:.3f} ({})", others.empty() ? "" : ", ", figure.get<double>(), name);
    }
  }
  fmt::print("{:<12} {:>10.3f} {:>12.1f} {:>14.0f} {:>15.1f}  {}\n", row.choice.name(),
             row.perplexity, static_cast<double>(row.bytes) / 1e6, row.read, row.write, others);
  std::fflush(stdout);
}

/// The smallest within a hundredth of the floats' perplexity.
const Row& best_of(const std::vector<Row>& rows) {
  const Row* best = &rows.front();
  for (const Row& row : rows) {
    if (row.perplexity <= 1.01 * rows.front().perplexity && row.bytes < best->bytes) best = &row;
  }
  return *best;
}

void answer(kvant::Context& context, const ModelFiles& files, const Tokenizer& tokenizer,
            const Task& task, const Choice& choice) {
  const auto form = recognize_chat_template(files.chat_template());
  if (!form) return;
  const std::vector<ChatMessage> messages = {{"user", task.question}};
  const Model model = load(context, files, choice);
  GenerateOptions options;
  options.tokens = 64;
  for (const std::string_view end : chat_end_tokens(form->form)) {
    if (const auto id = tokenizer.find(end)) options.more_end_ids.push_back(*id);
  }
  const std::vector<TokenId> ids = tokenizer.encode(apply_chat_template(*form, messages));
  fmt::print("\n{}\n  {}: {}\n", task.question, choice.name(),
             tokenizer.decode(generate(context, model, ids, options)));
}

void run(const Task& task) {
  kvant::Context context(kvant::ContextOptions{.threads = task.threads});
  const ModelFiles files(task.model);
  const Tokenizer tokenizer = files.tokenizer();
  std::vector<TokenId> ids = tokenizer.prefix();
  const std::vector<TokenId> text = tokenizer.encode(kvant::io::read_text_file(task.text));
  ids.insert(ids.end(), text.begin(), text.end());
  nlohmann::json peers = nlohmann::json::object();
  if (!task.peers.empty()) {
    peers = nlohmann::json::parse(kvant::io::read_text_file(task.peers)).at("perplexity");
  }
  fmt::print("{}: {} layers of width {}; kernels {}, {} thread(s); {} ids in windows of {}\n\n",
             task.model.filename().string(), files.config().n_layer, files.config().n_embd,
             context.isa(), context.executor().concurrency(), ids.size(), task.window);
  fmt::print("{:<14} {:>10} {:>12} {:>14} {:>15}  {}\n", "scheme", "perplexity", "weights (MB)",
             "read (token/s)", "write (token/s)", peers.empty() ? "" : "perplexity by others");
  using kvant::WeightFormat;
  std::vector<Row> rows;
  std::vector<Choice> choices = {Choice{Scheme::fp32},
                                 Choice{Scheme::bf16},
                                 Choice{Scheme::int8},
                                 Choice{Scheme::llm_int8},
                                 Choice{Scheme(WeightFormat::int8_group)},
                                 Choice{Scheme(WeightFormat::nf4)},
                                 Choice{Scheme(WeightFormat::nf4), Arithmetic::exact},
                                 Choice{Scheme(WeightFormat::fp4)},
                                 Choice{Scheme(WeightFormat::fp4), Arithmetic::exact},
                                 Choice{Scheme(WeightFormat::int4_group)},
                                 Choice{Scheme(WeightFormat::int4_group), Arithmetic::int15},
                                 Choice{Scheme(WeightFormat::int4_group), Arithmetic::exact}};
  if (files.config().stored_quantized) {
    choices.insert(choices.end(),
                   {Choice{Scheme::stored}, Choice{Scheme::stored, Arithmetic::int15},
                    Choice{Scheme::stored, Arithmetic::exact}});
  }
  for (const std::string& more : task.more) {
    const std::size_t at = more.find('=');
    choices.push_back(Choice{Scheme::stored, {}, more.substr(0, at), more.substr(at + 1)});
  }
  for (const Choice& choice : choices) {
    rows.push_back(measure(context, files, task, ids, choice));
    print_row(rows.back(), peers);
  }
  if (files.path().extension() == ".gguf") {
    fmt::print(
        "(fp32 runs the values of the file's blocks, stored the blocks: {:.1f} MB on disk)\n",
        static_cast<double>(std::filesystem::file_size(files.path())) / 1e6);
  }
  answer(context, files, tokenizer, task, best_of(rows).choice);
}

}  // namespace

int main(int argc, char** argv) {
  Task task;
  CLI::App app(
      "Example:\n"
      "  compare_model build/models/SmolLM2-135M-Instruct.Q4_1.gguf "
      "examples/models/smollm2/eval.txt\n\n"
      "Runs a language model in many schemes, and prints a table.\n",
      "compare_model");
  app.add_option("MODEL", task.model, "a folder in Hugging Face form, or a .gguf file")->required();
  app.add_option("TEXT", task.text, "a text to predict")->required();
  app.add_option("--peers", task.peers, "a JSON file of figures of others: {\"perplexity\": ...}");
  app.add_option("--also", task.more, "the model as another file or folder has it: NAME=MODEL")
      ->check([](const std::string& text) {
        const std::size_t at = text.find('=');
        const bool fine = at != 0 && at != std::string::npos && at + 1 < text.size();
        return fine ? std::string() : "'" + text + "' is not NAME=MODEL";
      });
  app.add_option("--window", task.window, "ids of the text at once (default: 512)")
      ->check(CLI::Range(std::int64_t{2}, std::int64_t{1'000'000}));
  app.add_option("--tokens", task.tokens, "ids to write for the speed (default: 64)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}));
  app.add_option("--chat", task.question, "a question to the best scheme");
  app.add_option("--threads", task.threads, "threads (default: all)")->check(CLI::Range(1, 1024));
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return 0;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "compare_model: {}\n", error.what());
    return 2;
  }
  try {
    run(task);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "compare_model: {}\n", error.what());
    return 1;
  }
}
