// compare_schemes: one model in every scheme, side by side: perplexity, bytes, speed, and what it
// writes. A note.txt beside the model folder is printed below: what a reader should know about it.

#include <fmt/core.h>
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iostream>
#include <kvant/context.hpp>
#include <kvant/io/text_file.hpp>
#include <kvant/models/generate.hpp>
#include <kvant/models/load.hpp>
#include <kvant/models/tokenizer.hpp>
#include <limits>
#include <string>
#include <vector>

namespace gpt_bigcode {
namespace {

using namespace kvant::models;
using kvant::io::read_text_file;

struct Row {
  Scheme scheme = Scheme::fp32;
  double perplexity = 0;
  double megabytes = 0;
  double read_per_second = 0;
  double written_per_second = 0;
  std::string text;
};

struct Task {
  std::filesystem::path model;
  std::string text;    ///< to predict
  std::string prompt;  ///< to continue
  std::int64_t tokens = 0;
};

/// The best of a few runs: on a busy machine the others tell about its other work.
double seconds_of(const auto& work) {
  constexpr int kRuns = 3;
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < kRuns; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    const auto end = std::chrono::steady_clock::now();
    best = std::min(best, std::chrono::duration<double>(end - start).count());
  }
  return best;
}

Row measure(kvant::Context& context, const Config& config, const Tokenizer& tokenizer,
            const Task& task, Scheme scheme) {
  Request request;
  request.scheme = scheme;
  LoadOptions load_options;
  load_options.plan = make_plan(config, request);
  const Model model = load_model(context, task.model, config, load_options);

  Row row;
  row.scheme = scheme;
  row.megabytes = static_cast<double>(model.weight_bytes()) / 1e6;
  std::vector<TokenId> ids = {static_cast<TokenId>(config.bos())};
  const std::vector<TokenId> encoded = tokenizer.encode(task.text);
  ids.insert(ids.end(), encoded.begin(), encoded.end());
  const double read = seconds_of(
      [&] { row.perplexity = evaluate(context, model, ids, config.n_positions).perplexity; });
  row.read_per_second = static_cast<double>(ids.size()) / read;

  std::vector<TokenId> generated;
  const std::vector<TokenId> prompt = tokenizer.encode(task.prompt);
  const double written =
      seconds_of([&] { generated = generate(context, model, prompt, task.tokens); });
  row.written_per_second = static_cast<double>(generated.size()) / written;
  row.text = task.prompt + tokenizer.decode(generated);
  return row;
}

void print_table(const std::vector<Row>& rows) {
  fmt::print("{:<12} {:>10} {:>12} {:>14} {:>16}\n", "scheme", "perplexity", "weights (MB)",
             "read (token/s)", "write (token/s)");
  for (const Row& row : rows) {
    fmt::print("{:<12} {:>10.3f} {:>12.2f} {:>14.0f} {:>16.0f}\n", to_string(row.scheme),
               row.perplexity, row.megabytes, row.read_per_second, row.written_per_second);
  }
}

/// The first lines of a text, indented.
void print_lines(const std::string& text, int lines) {
  std::size_t begin = 0;
  for (int i = 0; i < lines && begin < text.size(); ++i) {
    const std::size_t end = std::min(text.find('\n', begin), text.size());
    fmt::print("    {}\n", text.substr(begin, end - begin));
    begin = end + 1;
  }
}

void run(const Task& task, int threads) {
  kvant::Context context(kvant::ContextOptions{.threads = threads});
  const Config config = load_config(task.model / "config.json");
  const Tokenizer tokenizer(task.model / "tokenizer.json");
  std::vector<Row> rows;
  for (const Scheme scheme : all_schemes()) {
    rows.push_back(measure(context, config, tokenizer, task, scheme));
  }
  fmt::print("{}: {} layers of width {}; kernels {}, {} thread(s)\n\n", task.model.string(),
             config.n_layer, config.n_embd, context.isa(), context.executor().concurrency());
  print_table(rows);
  fmt::print("\nGreedy continuations of the same prompt:\n");
  for (const Row& row : rows) {
    fmt::print("\n  {}\n", to_string(row.scheme));
    print_lines(row.text, 12);
  }
}

}  // namespace
}  // namespace gpt_bigcode

int main(int argc, char** argv) {
  using namespace gpt_bigcode;
  Task task;
  std::string folder = "examples/models/tiny-code-model";
  int threads = 0;
  task.prompt = "template <typename T>\nclass vector\n{\npublic:\n    ";
  task.tokens = 64;
  CLI::App app(
      "Example:\n"
      "  compare_schemes examples/models/tiny-code-model\n\n"
      "Runs a GPTBigCode model in every scheme, and prints a "
      "table.\n",
      "compare_schemes");
  app.add_option("FOLDER", folder,
                 "holds model/, eval.txt, and perhaps note.txt (default: " + folder + ")");
  app.add_option("--prompt", task.prompt, "a text to continue");
  app.add_option("--tokens", task.tokens, "ids to generate (default: 64)")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1'000'000}));
  app.add_option("--threads", threads, "threads (default: all)")->check(CLI::Range(1, 1024));
  try {
    app.parse(argc, argv);
  } catch (const CLI::CallForHelp&) {
    std::cout << app.help();
    return 0;
  } catch (const CLI::ParseError& error) {
    fmt::print(stderr, "compare_schemes: {}\n", error.what());
    return 2;
  }
  try {
    task.model = std::filesystem::path(folder) / "model";
    task.text = read_text_file(std::filesystem::path(folder) / "eval.txt");
    run(task, threads);
    const std::filesystem::path note = std::filesystem::path(folder) / "note.txt";
    if (std::filesystem::exists(note)) fmt::print("\n{}", read_text_file(note));
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "compare_schemes: {}\n", error.what());
    return 1;
  }
}
