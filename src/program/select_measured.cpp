#include "select_measured.hpp"

#include "command_line.hpp"
#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <optional>
#include <sstream>

#include "interrupt.hpp"
#include "kvant/context.hpp"
#include "kvant/io/text_file.hpp"
#include "kvant/look/budget.hpp"
#include "kvant/look/mix_report.hpp"
#include "kvant/models/mix.hpp"
#include "kvant/models/model_files.hpp"
#include "selection.hpp"
#endif

namespace kvant::program {

void MeasureFlags::add_to(CLI::App& app) {
  auto* measure = app.add_option(
      "--measure", text_,
      "choose among many formats by what each costs each layer on this text. MODEL may be a\n"
      ".gguf file then; it is held in float32");
  measure->type_name("TEXT");
  const auto add = [&](CLI::Option* option) { option->needs(measure); };
  add(app.add_option("--method", method_,
                     "how sensitive a layer is: divergence (default: of the model's predictions "
                     "when\n"
                     "it alone is in int4:64, a run for each layer; other formats by their output\n"
                     "errors), loss (on the text, a run for each layer and format), or\n"
                     "output-error (of the layer alone, no runs)")
          ->type_name("NAME"));
  add(app.add_option("--formats", formats_,
                     "what a layer may become (default: "
                     "int2:64,int3:128,int3:64,int3:32,int4:128,int4:64,\n"
                     "int4:32,q4_1,q5_0,int8-group:128,fp16; also nf4:64, fp8, int8, ...)")
          ->type_name("LIST"));
  add(app.add_option("--max-perplexity", max_perplexity_,
                     "instead of --budget: the smallest model whose perplexity is at most this")
          ->type_name("X"));
  add(app.add_option("--arithmetic", arithmetic_,
                     "exact (default: the weights alone matter), or int8, as kvant run multiplies")
          ->type_name("NAME")
          ->check(CLI::IsMember({"exact", "int8"})));
  for (CLI::Option* option : windows_.add_to(app)) add(option);
  add(app.add_option("--statistics", statistics_,
                     "second moments from kvant calibrate, instead of those of the text")
          ->type_name("FILE"));
  add(app.add_option("--evaluate", evaluate_,
                     "the text that perplexities are of (default: the windows of --measure)")
          ->type_name("TEXT"));
  add(app.add_option("--evaluate-window", evaluate_window_,
                     "tokens of its windows (512, or the model's limit)")
          ->type_name("N")
          ->check(CLI::Range(2, 1 << 30)));
  add(app.add_flag("--chosen-only", chosen_only_,
                   "measure the perplexity of the chosen mix alone, not of uniform formats and\n"
                   "other sizes"));
  add(app.add_option("--plan", plan_, "write the formats for kvant run --plan, quantize --plan")
          ->type_name("FILE"));
  add(app.add_option("--svg", svg_, "write a picture of perplexity against bytes")
          ->type_name("FILE"));
  add(app.add_option("--html", html_, "write one page with the picture, points and layers")
          ->type_name("FILE"));
}

#if KVANT_PROGRAM_MODELS
namespace {

using models::LayerFormat;
using models::Sensitivities;
using models::TokenId;

std::vector<LayerFormat> parse_formats(const std::string& list) {
  std::vector<LayerFormat> formats;
  std::istringstream words(list);
  for (std::string word; std::getline(words, word, ',');) {
    const auto format = models::layer_format_from_name(word);
    if (!format) {
      throw UsageError("--formats " + word.substr(0, 40) +
                       ": no format like int4:64, int3:32, nf4:64, int8-group:128, fp8 or fp16");
    }
    if (std::find(formats.begin(), formats.end(), *format) == formats.end()) {
      formats.push_back(*format);
    }
  }
  return formats;
}

bool is_quantized(const LayerFormat& format) {
  return !describe(format.format).is_float();
}

/// What would end the writing of the output behind all the work; and what the layers take there,
/// where all are in the quantized format.
std::vector<io::PlannedLayer> check_output(const SelectTask& task,
                                           const std::vector<LayerFormat>& formats) {
  if (std::filesystem::exists(task.output) && !task.force) {
    throw Error(ErrorCode::io, task.output +
                                   ": exists already; give another name, or force (--force) to "
                                   "replace it");
  }
  check_place(task.output);
  models::FormatPlan everything;
  for (const LayerFormat& format : formats) {
    if (is_quantized(format)) everything.layers["*"] = format;
  }
  if (everything.layers.empty()) return {};
  io::QuantizeCheckpointOptions trial = to_quantize_options(everything);
  trial.dry_run = true;
  return io::quantize_checkpoint(task.model, task.output, trial).layers;
}

std::string method_in_words(const Sensitivities& found) {
  std::string words(to_string(found.method));
  if (found.method != models::SensitivityMethod::loss) {
    words += " (reference " + to_string(found.reference) + ")";
  }
  return words;
}

std::string number(double value) {
  char text[40];
  std::snprintf(text, sizeof text, "%.6g", value);
  return text;
}

/// The windows as one text again, for perplexities.
std::vector<TokenId> joined(const std::vector<std::vector<TokenId>>& windows) {
  std::vector<TokenId> ids;
  for (const auto& window : windows) ids.insert(ids.end(), window.begin(), window.end());
  return ids;
}

}  // namespace

io::QuantizeCheckpointOptions MeasureFlags::run(const SelectTask& task) const {
  models::MeasureOptions options;
  const auto method = models::sensitivity_method_from_name(method_);
  if (!method) {
    throw UsageError("--method " + method_.substr(0, 40) +
                     " is not one of divergence, loss, output-error");
  }
  options.method = *method;
  options.formats = parse_formats(formats_);
  const bool by_perplexity = max_perplexity_ != 0;
  if (by_perplexity == !task.budget.empty()) {
    throw UsageError("give --budget BYTES or BITS (80MB, 4.5bits), or --max-perplexity X");
  }
  look::Budget budget;
  if (by_perplexity) {
    if (!(max_perplexity_ >= 1) || std::isinf(max_perplexity_)) {
      throw UsageError("--max-perplexity: a perplexity is a number from 1 up");
    }
  } else {
    budget = look::parse_budget(task.budget);
    if (budget.kind != look::BudgetKind::bytes && budget.kind != look::BudgetKind::bits) {
      throw UsageError("--budget " + task.budget +
                       ": decibels are of weights; with --measure give bytes (80MB), bits "
                       "(4.5bits), or --max-perplexity X");
    }
  }
  const auto quantized =
      std::count_if(options.formats.begin(), options.formats.end(), is_quantized);
  if (!task.output.empty() && (formats_.empty() || quantized > 1)) {
    throw UsageError(
        "--write OUT: a checkpoint holds one quantized format beside floats; give --formats "
        "int4:64,fp16, or write --plan FILE, which kvant run runs");
  }
  if (!task.output.empty() && !std::filesystem::is_directory(task.model)) {
    throw UsageError("--write OUT is for folders; write --plan FILE, which kvant run runs");
  }
  for (const std::string* file : {&plan_, &svg_, &html_, &task.json}) {
    check_place(*file);  // now, and not behind minutes of work
  }
  std::vector<io::PlannedLayer> written;
  if (!task.output.empty()) written = check_output(task, options.formats);
  const models::ModelFiles files(task.model);
  const auto windows = windows_.read(files, text_);
  std::optional<models::StatisticsFile> statistics;
  if (!statistics_.empty()) {
    statistics.emplace(statistics_);
    options.statistics = &*statistics;
  }
  std::vector<TokenId> ids = joined(windows);
  std::int64_t window = std::min(windows_.window, files.config().position_limit());
  if (!evaluate_.empty()) {
    ids = ids_of_text(files.config(), files.tokenizer(), io::read_text_file(evaluate_));
    window = std::min(evaluate_window_, files.config().position_limit());
    if (ids.size() < 2) {
      throw Error(ErrorCode::invalid_file,
                  evaluate_ + ": is " + std::to_string(ids.size()) +
                      " tokens for this model; perplexities want hundreds");
    }
  }
  Context context(ContextOptions{.threads = task.threads});
  if (statistics &&
      statistics->fingerprint() != model_fingerprint(context, files.path(), files.config())) {
    throw Error(ErrorCode::invalid_file, statistics_ + ": is of another model than " + task.model);
  }
  Selection selection(task, files, context, arithmetic_ == "exact");
  selection.set_evaluation(std::move(ids), window);
  if (by_perplexity && max_perplexity_ < selection.floats().perplexity) {
    throw UsageError("--max-perplexity " + number(max_perplexity_) +
                     ": the floats themselves have " + number(selection.floats().perplexity) +
                     " on this text");
  }
  selection.measure(windows, options);
  selection.count_as_written(written);
  const Sensitivities& found = selection.found();
  const models::MeasuredMix best =
      by_perplexity ? selection.below(max_perplexity_) : selection.under(budget);

  look::MixReport report;
  report.model = task.model;
  report.method = method_in_words(found);
  report.arithmetic = arithmetic_;
  report.budget = by_perplexity ? "a perplexity of " + number(max_perplexity_) : task.budget;
  report.measured_on = text_;
  report.evaluated_on = evaluate_.empty() ? text_ : evaluate_;
  report.tokens = found.tokens;
  report.runs = found.runs;
  report.float_perplexity = selection.floats().perplexity;
  report.gap = best.mix.gap;
  selection.add_points(report, !chosen_only_);
  look::MixPoint chosen = selection.point_of(best.mix, look::MixPointKind::chosen, "chosen");
  chosen.measured = best.result.perplexity;
  report.points.push_back(chosen);
  for (std::size_t i = 0; i < found.layers.size(); ++i) {
    const models::LayerSensitivity& layer = found.layers[i];
    const models::FormatSensitivity& format = layer.formats[best.mix.chosen[i]];
    report.layers.push_back({layer.name, layer.outputs, layer.inputs, to_string(format.format),
                             format.bytes, format.output_error, format.loss});
  }
  models::FormatPlan plan = plan_of(found, best.mix);
  plan.notes = {{"method", report.method},
                {"measured_on", report.measured_on},
                {"budget", report.budget},
                {"bits", number(chosen.bits)},
                {"perplexity_predicted", number(chosen.predicted)},
                {"perplexity_measured", number(best.result.perplexity)}};
  write_text(plan_, to_json(plan));
  write_text(svg_, to_svg(report));
  write_text(html_, to_html(report));
  if (task.json != "-") write_text(task.json, to_json(report));
  std::cout << (task.json == "-" ? to_json(report) : to_text(report));
  if (!plan_.empty() && task.json != "-") {
    std::cout << "\nkvant run " << shell_word(task.model) << " --plan " << shell_word(plan_)
              << " --prompt 'Once upon a time'\n";
  }
  if (task.output.empty()) return {};
  return to_quantize_options(plan);
}

#else

io::QuantizeCheckpointOptions MeasureFlags::run(const SelectTask&) const {
  throw Error(ErrorCode::unsupported,
              "kvant select --measure needs kvant::models, which this program was built without");
}

#endif

}  // namespace kvant::program
