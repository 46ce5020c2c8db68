// kvant calibrate: what the layers of a model read, over a text, into a file for the calibrated
// methods.

#include "commands.hpp"
#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "calibration_windows.hpp"
#include "command_line.hpp"
#include "interrupt.hpp"
#include "kvant/context.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/models/statistics.hpp"
#include "progress.hpp"
#include "ranks.hpp"
#endif

namespace kvant::program {

#if KVANT_PROGRAM_MODELS
namespace {

constexpr const char* kCalibrateDescription =
    "Examples:\n"
    "  kvant calibrate MODEL text.txt --out stats.safetensors\n"
    "  kvant quantize MODEL OUT --scheme gptq --calibrate stats.safetensors\n"
    "  mpirun -np 4 kvant calibrate MODEL text.txt --out stats.safetensors    (the same bytes)\n\n"
    "Runs MODEL (a folder or .gguf file) over the text, one block in memory at a time, and "
    "writes\n"
    "for each input of its linear layers ranges, mean magnitudes, outliers, a histogram, and the\n"
    "second moments that GPTQ and AWQ need. One file serves all of them. A run that was killed is\n"
    "taken up where it was.\n";

WeightFormat parse_forward(const std::string& name) {
  if (name == "fp32") return WeightFormat::float32;
  if (name == "bf16") return WeightFormat::bfloat16;
  return WeightFormat::int8_row;
}

}  // namespace

int calibrate_command(const Arguments& arguments) {
  std::string model;
  std::string text;
  std::string output;
  WindowFlags windows;
  std::string threshold_text;
  std::string forward = "fp32";
  bool no_moments = false;
  bool force = false;
  bool quiet = false;
  int threads = 0;
  models::CalibrateOptions options;
  CLI::App app(kCalibrateDescription, "kvant calibrate");
  app.add_option("MODEL", model, "a folder or .gguf file")->required();
  app.add_option("TEXT", text, "a text like those that the model will see")->required();
  app.add_option("--out", output, "the file to write")->type_name("FILE")->required();
  windows.add_to(app);
  auto* threshold =
      app.add_option("--threshold", threshold_text, "inputs of this magnitude are outliers (6)")
          ->type_name("T");
  app.add_flag("--no-moments", no_moments,
               "leave out the second moments (4 * features^2 bytes an input): enough for\n"
               "SmoothQuant, kept outliers and reports");
  app.add_option("--longest-row", options.longest_row,
                 "in second moments, rows longer than this many times the median of their window\n"
                 "are shortened to it (4; 0: never)")
      ->type_name("N")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--forward", forward,
                 "how the model is run: fp32, bf16 or int8 (LLM.int8()), which are faster")
      ->type_name("NAME")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}));
  app.add_option("--threads", threads, "0: all")->type_name("N")->check(CLI::NonNegativeNumber);
  app.add_flag("--force", force, "replace FILE if it is there");
  app.add_flag("--quiet", quiet, "no progress");
  if (!parse(app, arguments)) return 0;
  if (threshold->count() > 0) options.threshold = parse_threshold(threshold_text);
  if (!(options.threshold > 0)) throw UsageError("--threshold: must be above 0");
  options.moments = !no_moments;
  options.forward = parse_forward(forward);
  agree_on_files(model);
  agree_on_files(text);
  if (!force && leads() && std::filesystem::exists(output)) {
    throw Error(ErrorCode::io, output + ": is there already (--force replaces it)");
  }
  const models::ModelFiles files(model);
  const auto ids = windows.read(files, text);
  Progress progress(quiet, "windows through blocks");
  options.cancel = &interrupted();
  options.progress = progress.counter();
  options.ranks = job_ranks();
  Context context(ContextOptions{.threads = threads_of_rank(threads)});
  const auto start = std::chrono::steady_clock::now();
  const models::CalibrateSummary summary =
      models::calibrate_model(context, files.path(), files.config(), ids, output, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  set_result_written();
  for (const std::string& warning : summary.warnings) {
    std::fprintf(stderr, "kvant: warning: %s\n", warning.c_str());
  }
  if (quiet || !leads()) return 0;
  if (summary.resumed_blocks > 0) {
    std::printf("taken up behind block %lld\n", static_cast<long long>(summary.resumed_blocks));
  }
  std::printf("%lld inputs of %lld layers over %lld tokens in %s, %s, %.1f s\n",
              static_cast<long long>(summary.inputs), static_cast<long long>(summary.layers),
              static_cast<long long>(summary.rows), output.c_str(),
              size_text(std::filesystem::file_size(output)).c_str(), seconds.count());
  return 0;
}

#else

int calibrate_command(const Arguments&) {
  throw Error(ErrorCode::unsupported,
              "kvant calibrate needs kvant::models, which this program was built without");
}

#endif

}  // namespace kvant::program
