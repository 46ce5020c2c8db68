// kvant report --activations: what the layers of a model read, and what which method would gain.

#include "kvant/error.hpp"
#include "report.hpp"
#if KVANT_PROGRAM_MODELS
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <optional>

#include "calibration_windows.hpp"
#include "command_line.hpp"
#include "interrupt.hpp"
#include "kvant/context.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/models/report_activations.hpp"
#include "progress.hpp"
#endif

namespace kvant::program {

#if KVANT_PROGRAM_MODELS
namespace {

namespace fs = std::filesystem;

constexpr const char* kReportActivationsDescription =
    "Examples:\n"
    "  kvant report --activations text.txt MODEL --html report.html\n"
    "  kvant report --activations stats.safetensors MODEL       (from kvant calibrate)\n\n"
    "Runs MODEL (a folder or .gguf file) over the text, one block in memory at a time, or takes\n"
    "the statistics that kvant calibrate wrote, and shows for each input of its linear layers how\n"
    "large activations are, which features are outliers in how many tokens, and by an estimate\n"
    "that is printed with it what plain rounding, smoothquant, llm-int8, awq and gptq would leave\n"
    "of the outputs. Long texts and large models: kvant calibrate goes on where it was stopped.\n";

/// Statistics of a text, while the report is made.
class TemporaryStatistics {
 public:
  TemporaryStatistics() = default;
  ~TemporaryStatistics() {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  TemporaryStatistics(const TemporaryStatistics&) = delete;
  TemporaryStatistics& operator=(const TemporaryStatistics&) = delete;

  /// Runs the model. @throws Error as calibrate_model
  fs::path make(Context& context, const models::ModelFiles& files,
                const std::vector<std::vector<models::TokenId>>& windows,
                models::CalibrateOptions options, Progress& progress) {
    // A folder of its own, which nobody else reads: activations tell of the text.
    std::error_code code;
    const fs::path place = fs::temp_directory_path(code);
    if (code) throw Error(ErrorCode::io, "no folder for temporary files: " + code.message());
    std::string name = (place / "kvant-report-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) {
      throw Error(ErrorCode::io, place.string() +
                                     ": no folder can be made there (TMPDIR names "
                                     "another place)");
    }
    folder_ = name;
    options.cancel = &interrupted();
    options.progress = progress.counter();
    const fs::path file = folder_ / "statistics.safetensors";
    try {
      models::calibrate_model(context, files.path(), files.config(), windows, file, options);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::cancelled) throw;
      throw Error(ErrorCode::cancelled, "stopped; nothing was written");
    }
    return file;
  }

 private:
  fs::path folder_;
};

}  // namespace

int report_activations_command(const Arguments& arguments) {
  std::string model;
  std::string source;
  std::string json;
  std::string html;
  std::string threshold_text;
  bool no_moments = false;
  bool quiet = false;
  int threads = 0;
  WindowFlags windows;
  models::ReportActivationsOptions options;
  CLI::App app(kReportActivationsDescription, "kvant report");
  app.add_option("--activations", source,
                 "a text like those that the model will see, or what kvant calibrate made of one")
      ->type_name("TEXT|STATS")
      ->required();
  app.add_option("MODEL", model, "a folder or .gguf file")->required();
  app.add_option("--json", json, "write one JSON object (-: to standard output, without tables)")
      ->type_name("FILE");
  app.add_option("--html", html, "write one self-contained page with histograms")
      ->type_name("FILE");
  app.add_option("--group", options.group, "weights that share a scale at 4 bits (64)")
      ->type_name("N")
      ->check(CLI::Range(32, 1 << 20));
  std::vector<CLI::Option*> for_texts = windows.add_to(app);
  for_texts.push_back(
      app.add_option("--threshold", threshold_text, "inputs of this magnitude are outliers (6)")
          ->type_name("T"));
  const CLI::Option* threshold = for_texts.back();
  for_texts.push_back(app.add_flag(
      "--no-moments", no_moments,
      "leave out the second moments (4 * features^2 bytes an input, in the folder for\n"
      "temporary files): gptq is not estimated then"));
  app.add_option("--threads", threads, "threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--quiet", quiet, "no progress");
  // "--activations --help" asks for help, and names no text.
  const bool asks = std::any_of(arguments.begin(), arguments.end(), [](const std::string& word) {
    return word == "--help" || word == "-h";
  });
  if (!parse(app, asks ? Arguments{"--help"} : arguments)) return 0;

  for (const std::string* file : {&json, &html}) check_place(*file);
  const models::ModelFiles files(model);
  Context context(ContextOptions{.threads = threads});
  TemporaryStatistics made;
  fs::path file = source;
  if (models::StatisticsFile::is_one(source)) {
    for (const CLI::Option* option : for_texts) {
      if (option->count() == 0) continue;
      throw UsageError(option->get_name() + " is for a text; " + source +
                       " are statistics that are there already");
    }
  } else {
    models::CalibrateOptions calibrate;
    calibrate.moments = !no_moments;
    if (threshold->count() > 0) calibrate.threshold = parse_threshold(threshold_text);
    if (!(calibrate.threshold > 0)) throw UsageError("--threshold: must be above 0");
    const auto ids = windows.read(files, source);
    Progress progress(quiet, "windows through blocks");
    file = made.make(context, files, ids, calibrate, progress);
  }
  const models::StatisticsFile statistics(file);
  Progress progress(quiet, "inputs");
  options.cancel = &interrupted();
  options.progress = progress.counter();
  look::ActivationReport report =
      models::report_activations(context, files.path(), files.config(), statistics, options);
  report.source = source;
  progress.finish();
  if (json == "-") {
    std::cout << to_json(report);
  } else {
    std::cout << to_text(report);
    write_text(json, to_json(report));
  }
  write_text(html, to_html(report));
  return 0;
}

#else

int report_activations_command(const Arguments&) {
  throw Error(ErrorCode::unsupported,
              "kvant report --activations needs kvant::models, which this program was built "
              "without");
}

#endif

}  // namespace kvant::program
