// kvant merge: a LoRA adapter into the weights of a float checkpoint.

#include "commands.hpp"
#include "kvant/error.hpp"
#if KVANT_PROGRAM_MODELS
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <string>

#include "command_line.hpp"
#include "job_options.hpp"
#include "kvant/models/adapter.hpp"
#endif

namespace kvant::program {

#if KVANT_PROGRAM_MODELS
namespace {

constexpr const char* kMergeDescription =
    "Examples:\n"
    "  kvant merge MODEL OUT --adapter DIR\n"
    "  kvant merge MODEL OUT --adapter DIR --dry-run\n\n"
    "Writes the folder OUT from the folder MODEL, whose weights are floats, with a LoRA adapter "
    "in\n"
    "PEFT's form (adapter_config.json, adapter_model.safetensors) added to them. Each weight "
    "keeps\n"
    "its dtype. (kvant run --adapter runs it beside weights in any format.)\n";

}  // namespace

int merge_command(const Arguments& arguments) {
  std::string model;
  std::string output;
  std::string adapter;
  JobFlags flags;
  io::MergeCheckpointOptions options;
  CLI::App app(kMergeDescription, "kvant merge");
  app.add_option("MODEL", model, "the folder to read")->required();
  app.add_option("OUT", output, "the folder to write")->required();
  app.add_option("--adapter", adapter, "the adapter's folder")->type_name("DIR")->required();
  flags.add_to(app);
  if (!parse(app, arguments)) return 0;

  Progress progress(flags.quiet);
  flags.apply(options.job, progress);
  options.dry_run = flags.dry_run;
  const auto start = std::chrono::steady_clock::now();
  const io::CheckpointSummary summary = models::merge_adapter(model, adapter, output, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!options.dry_run) set_result_written();
  print_warnings(summary);
  if (flags.dry_run) {
    for (const io::PlannedLayer& layer : summary.layers) std::printf("%s\n", layer.name.c_str());
  }
  if (flags.quiet) return 0;
  const char* what = flags.dry_run ? "dry run: " : "";
  std::printf("%s%zu linear layers merged", what, summary.layers.size());
  if (flags.dry_run) {
    std::printf("; nothing was written\n");
  } else {
    std::printf(", %zu file%s in %s, %.1f s\n", summary.shards.size(),
                summary.shards.size() == 1 ? "" : "s", output.c_str(), seconds.count());
  }
  return 0;
}

#else

int merge_command(const Arguments&) {
  throw Error(ErrorCode::unsupported,
              "kvant merge needs kvant::models, which this program was built without");
}

#endif

}  // namespace kvant::program
