// kvant dequantize: a quantized checkpoint back to a float one.

#include <CLI/CLI.hpp>
#include <chrono>
#include <string>

#include "command_line.hpp"
#include "job_options.hpp"

namespace kvant::program {
namespace {

constexpr const char* kDequantizeDescription =
    "Examples:\n"
    "  kvant dequantize MODEL OUT\n"
    "  kvant dequantize MODEL OUT --dtype fp16\n\n"
    "Writes the folder OUT from the folder MODEL, whose layers are quantized by bitsandbytes (8 "
    "and "
    "4\n"
    "bits), GPTQ, AWQ, compressed-tensors, DeepSeek's fp8 or kvant quantize. What rounding lost "
    "does\n"
    "not come back.\n";

}  // namespace

int dequantize_command(const Arguments& arguments) {
  std::string model;
  std::string output;
  std::string dtype;
  JobFlags flags;
  io::DequantizeCheckpointOptions options;

  CLI::App app(kDequantizeDescription, "kvant dequantize");
  app.add_option("MODEL", model, "the folder to read")->required();
  app.add_option("OUT", output, "the folder to write")->required();
  app.add_option("--dtype", dtype, "fp32, fp16 or bf16 (default: what config.json names)")
      ->type_name("NAME");
  flags.add_to(app);
  if (!parse(app, arguments)) return 0;

  if (dtype == "fp32") {
    options.dtype = DType::float32;
  } else if (dtype == "fp16") {
    options.dtype = DType::float16;
  } else if (dtype == "bf16") {
    options.dtype = DType::bfloat16;
  } else if (!dtype.empty()) {
    throw UsageError("--dtype " + dtype.substr(0, 40) + " is not one of fp32, fp16, bf16");
  }
  Progress progress(flags.quiet);
  flags.apply(options.job, progress);
  options.dry_run = flags.dry_run;
  const auto start = std::chrono::steady_clock::now();
  const io::CheckpointSummary summary = dequantize_checkpoint(model, output, options);
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  progress.finish();
  if (!options.dry_run) set_result_written();
  print_summary(summary, flags, "dequantized", output, seconds.count());
  return 0;
}

}  // namespace kvant::program
