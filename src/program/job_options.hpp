#pragma once

// What the jobs that write a checkpoint share: options, progress, and the words at the end.

#include <string>

#include "command_line.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "progress.hpp"

namespace kvant::program {

/// Options of a job that writes a checkpoint.
struct JobFlags {
  std::string max_shard_size = "5GB";
  int threads = 0;
  bool dry_run = false;
  bool force = false;
  bool quiet = false;

  /// All of them.
  void add_to(CLI::App& app);
  /// --threads alone.
  void add_threads_to(CLI::App& app);
  /// @throws UsageError
  void apply(io::JobOptions& options, Progress& progress) const;
};

/// The warnings to stderr, a line for each.
void print_warnings(const io::CheckpointSummary& summary);

/// Warnings to stderr; on stdout the layers of a dry run, and what came of it.
/// @param verb "quantized", "dequantized"
void print_summary(const io::CheckpointSummary& summary, const JobFlags& flags, const char* verb,
                   const std::string& output, double seconds);

}  // namespace kvant::program
