// kvant select: which layers to quantize under a budget.

#include <CLI/CLI.hpp>
#include <iostream>
#include <string>

#include "command_line.hpp"
#include "job_options.hpp"
#include "kvant/look/select.hpp"
#include "select_measured.hpp"

namespace kvant::program {
namespace {

constexpr const char* kSelectDescription =
    "Examples:\n"
    "  kvant select MODEL --budget 40dB               every layer has at least 40 dB SQNR\n"
    "  kvant select MODEL --budget 42dB --total       all layers together have\n"
    "  kvant select MODEL --budget 500MB --write OUT  the best model of at most that size\n"
    "  kvant select MODEL --measure text.txt --budget 4.5bits --plan plan.json --html mix.html\n"
    "  kvant run MODEL --plan plan.json --perplexity eval.txt\n\n"
    "Tries a quantized form, fp16 and bf16 on each linear layer, proposes one for each, and prints "
    "the plan\n"
    "and the arguments of kvant quantize that carry it out. What is compared are weights, not the\n"
    "model's answers. With --measure it is the answers: many formats are tried on each layer while "
    "the\n"
    "model reads a text, and the best mix of them is within 0.1 % of the optimum by these "
    "figures.\n"
    "That costs half a run of the model over the windows for each layer (--method divergence).\n";

std::string quantizing_schemes() {
  std::string names;
  for (const io::WeightScheme scheme : io::weight_schemes()) {
    if (!scheme.quantizes()) continue;
    names += (names.empty() ? "" : ", ") + std::string(to_string(scheme));
  }
  return names;
}

}  // namespace

int select_command(const Arguments& arguments) {
  std::string model;
  std::string budget_text;
  std::string scheme = "llm-int8";
  std::string output;
  std::string json_text;
  bool total = false;
  MeasureFlags measure;
  JobFlags flags;
  look::SelectOptions options;
  CLI::App app(kSelectDescription, "kvant select");
  app.add_option("MODEL", model, "the folder to read")->required();
  app.add_option("--budget", budget_text,
                 "decibels (smallest model), or bytes or bits a weight of the layers, scales "
                 "included\n"
                 "(best model): 40dB, 500MB, 1.5GiB, 4.5bits")
      ->type_name("BUDGET");
  auto* of_total = app.add_flag("--total", total, "decibels are meant for all layers together");
  auto* form = app.add_option(
      "--quantized,--int8", scheme,
      "the quantized scheme, one of " + quantizing_schemes() + "\n(default: llm-int8)");
  form->type_name("NAME");
  auto* write = app.add_option("--write", output, "quantize MODEL by the plan into this folder")
                    ->type_name("OUT");
  app.add_flag("--force", flags.force, "replace OUT if it is an empty folder or a checkpoint")
      ->needs(write);
  app.add_option("--json", json_text,
                 "one JSON object: instead of the table, or into this file beside it")
      ->expected(0, 1)
      ->default_str("-")
      ->type_name("[FILE]");
  measure.add_to(app);
  flags.add_threads_to(app);
  app.add_flag("--quiet", flags.quiet, "no progress");
  if (!parse(app, arguments)) return 0;
  Progress progress(flags.quiet);
  const auto write_model = [&](io::QuantizeCheckpointOptions quantize) {
    if (output.empty()) return;
    std::cout.flush();
    flags.apply(quantize.job, progress);
    const io::CheckpointSummary summary = io::quantize_checkpoint(model, output, quantize);
    progress.finish();
    set_result_written();
    print_warnings(summary);
  };
  if (measure.chosen()) {
    if (of_total->count() + form->count() > 0) {
      throw UsageError("--total and --quantized are not for --measure (--formats)");
    }
    write_model(measure.run(
        {model, budget_text, output, json_text, flags.quiet, flags.threads, flags.force}));
    return 0;
  }
  if (budget_text.empty()) throw UsageError("--budget is required (try kvant select --help)");
  const auto quantized = io::weight_scheme_from_name(scheme);
  if (!quantized || !quantized->quantizes()) {
    throw UsageError("--quantized " + scheme.substr(0, 40) + " is not a scheme that quantizes");
  }
  options.quantized = *quantized;
  const look::Budget budget = look::parse_budget(budget_text, total);

  options.threads = flags.threads;
  options.progress = [&](std::uint64_t done, std::uint64_t all, std::string_view name) {
    progress.update(done, all, name);
  };
  const look::SchemePlan plan = look::select_schemes(model, budget, options);
  progress.finish();
  const bool json = json_text == "-";
  if (!json) write_text(json_text, to_json(plan));
  std::cout << (json ? to_json(plan) : to_text(plan));
  const std::string words = to_arguments(plan);
  if (!json && !words.empty()) {
    std::cout << "\nkvant quantize " << shell_word(model) << " "
              << (output.empty() ? "OUT" : shell_word(output)) << " " << words << "\n";
  }
  write_model(to_quantize_options(plan));
  return 0;
}

}  // namespace kvant::program
