#include "job_options.hpp"

#include <CLI/CLI.hpp>
#include <cstdio>

#include "command_line.hpp"
#include "interrupt.hpp"

namespace kvant::program {
namespace {

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text;
  for (const std::uint64_t size : shape) text += (text.empty() ? "" : "x") + std::to_string(size);
  return text;
}

void print_layers(const io::CheckpointSummary& summary) {
  for (const io::PlannedLayer& layer : summary.layers) {
    const std::string kept =
        layer.kept_columns > 0 ? "  " + std::to_string(layer.kept_columns) + " columns kept" : "";
    std::printf("%-56s %-9s %-8s -> %-8s %12s -> %s%s\n", layer.name.c_str(),
                shape_text(layer.shape).c_str(), std::string(to_string(layer.stored)).c_str(),
                std::string(to_string(layer.scheme)).c_str(), size_text(layer.bytes_before).c_str(),
                size_text(layer.bytes_after).c_str(), kept.c_str());
  }
}

}  // namespace

void JobFlags::add_to(CLI::App& app) {
  app.add_option("--max-shard-size", max_shard_size,
                 "begin a new file where one would grow beyond this (default: 5GB)")
      ->type_name("SIZE");
  add_threads_to(app);
  app.add_flag("--dry-run", dry_run, "say what would be done, layer by layer; write nothing");
  app.add_flag("--force", force, "replace OUT if it is an empty folder or a checkpoint");
  app.add_flag("--quiet", quiet, "no progress and no summary, only warnings and errors");
}

void JobFlags::add_threads_to(CLI::App& app) {
  app.add_option("--threads", threads, "threads (default: all)")
      ->type_name("N")
      ->check(CLI::Range(1, 1024));
}

void JobFlags::apply(io::JobOptions& options, Progress& progress) const {
  options.max_shard_size = parse_size(max_shard_size, "--max-shard-size");
  options.force = force;
  options.threads = threads;
  options.cancel = &interrupted();
  options.progress = [&progress](std::uint64_t done, std::uint64_t total, std::string_view name) {
    progress.update(done, total, name);
  };
}

void print_warnings(const io::CheckpointSummary& summary) {
  for (const io::Warning& warning : summary.warnings) {
    std::fprintf(stderr, "kvant: warning: %s\n", warning.text.c_str());
  }
}

void print_summary(const io::CheckpointSummary& summary, const JobFlags& flags, const char* verb,
                   const std::string& output, double seconds) {
  print_warnings(summary);
  if (flags.dry_run) print_layers(summary);
  if (flags.quiet) return;
  std::size_t changed = 0;
  for (const io::PlannedLayer& layer : summary.layers) {
    changed += layer.bytes_after != layer.bytes_before || layer.scheme != io::WeightScheme::keep;
  }
  std::printf("%s%zu of %zu linear layers %s: %s -> %s (%.1f%%), %zu file%s",
              flags.dry_run ? "dry run: " : "", changed, summary.layers.size(), verb,
              size_text(summary.bytes_before).c_str(), size_text(summary.bytes_after).c_str(),
              100.0 * static_cast<double>(summary.bytes_after) /
                  static_cast<double>(std::max<std::uint64_t>(1, summary.bytes_before)),
              summary.shards.size(), summary.shards.size() == 1 ? "" : "s");
  if (flags.dry_run) {
    std::printf("; nothing was written\n");
  } else {
    std::printf(" in %s, %.1f s\n", output.c_str(), seconds);
  }
}

}  // namespace kvant::program
