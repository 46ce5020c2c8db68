// kvant report: what a quantization did, layer by layer.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <string>

#include "command_line.hpp"
#include "kvant/look/report.hpp"
#include "progress.hpp"
#include "report.hpp"

namespace kvant::program {
namespace {

constexpr const char* kReportDescription =
    "Examples:\n"
    "  kvant report MODEL QUANTIZED\n"
    "  kvant report MODEL QUANTIZED --svg report.svg --html report.html\n"
    "  kvant report f32.gguf q4_k.gguf\n"
    "  kvant report --activations text.txt MODEL      (see kvant report --activations --help)\n\n"
    "Compares the weights of two checkpoints of one model: for each linear layer the largest and\n"
    "mean error, mean squared error, SQNR (signal to quantization noise), cosine, outlier columns\n"
    "kept in half precision, and bytes before and after.\n";

/// Its command line has other words.
bool is_about_activations(const Arguments& arguments) {
  return std::any_of(arguments.begin(), arguments.end(), [](const std::string& word) {
    return word == "--activations" || word.starts_with("--activations=");
  });
}

}  // namespace

int report_command(const Arguments& arguments) {
  if (is_about_activations(arguments)) return report_activations_command(arguments);
  std::string model;
  std::string quantized;
  std::string svg;
  std::string html;
  bool json = false;
  bool quiet = false;
  look::ReportOptions options;
  CLI::App app(kReportDescription, "kvant report");
  app.add_option("MODEL", model,
                 "the original: a folder, a .safetensors file, an index, or a .gguf file")
      ->required();
  app.add_option("QUANTIZED", quantized, "the quantized one")->required();
  app.add_flag("--json", json, "one JSON object instead of a table");
  app.add_option("--svg", svg, "write a chart of error and size by layer")->type_name("FILE");
  app.add_option("--html", html, "write one self-contained page with chart and table")
      ->type_name("FILE");
  app.add_option("--threads", options.threads, "threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
  app.add_flag("--quiet", quiet, "no progress");
  if (!parse(app, arguments)) return 0;

  Progress progress(quiet);
  options.progress = [&](std::uint64_t done, std::uint64_t total, std::string_view layer) {
    progress.update(done, total, layer);
  };
  const look::CheckpointReport report = look::report_checkpoint(model, quantized, options);
  progress.finish();
  std::cout << (json ? to_json(report) : to_text(report));
  write_text(svg, to_svg(report));
  write_text(html, to_html(report));
  return 0;
}

}  // namespace kvant::program
