#include "kvant/io/quantize_checkpoint.hpp"

#include <utility>

#include "io/convert/quantize_plan.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

/// Writes what was planned, unless it is a dry run.
CheckpointSummary carry_out(const CheckpointSource& source, QuantizePlan plan,
                            const std::filesystem::path& output, const JobOptions& options,
                            bool dry_run) {
  const std::vector<std::filesystem::path> other_files = source.other_files();
  for (const auto& file : other_files) {
    plan.summary.copied_files.push_back(file.filename().string());
  }
  if (dry_run) {
    plan.summary.shards = plan_shards(std::move(plan.outputs), options.max_shard_size).names;
    return std::move(plan.summary);
  }
  CheckpointWriterOptions writer_options;
  writer_options.max_shard_size = options.max_shard_size;
  writer_options.force = options.force;
  writer_options.metadata = std::move(plan.metadata);
  writer_options.source = source.folder();
  CheckpointWriter writer(output, std::move(plan.outputs), writer_options);
  run_jobs(plan.jobs, writer, options);
  writer.add_file("config.json", plan.config);
  for (const auto& file : other_files) writer.copy_file(file);
  if (options.cancel != nullptr && options.cancel->load()) {
    throw Error(ErrorCode::cancelled, "stopped; nothing was written");
  }
  writer.commit();
  plan.summary.shards = writer.shards();
  return std::move(plan.summary);
}

}  // namespace

CheckpointSummary quantize_checkpoint(const std::filesystem::path& model,
                                      const std::filesystem::path& output,
                                      const QuantizeCheckpointOptions& options) {
  const CheckpointSource source(model);
  QuantizePlan plan = plan_quantization(source, options);
  return carry_out(source, std::move(plan), output, options.job, options.dry_run);
}

CheckpointSummary dequantize_checkpoint(const std::filesystem::path& model,
                                        const std::filesystem::path& output,
                                        const DequantizeCheckpointOptions& options) {
  const CheckpointSource source(model);
  QuantizePlan plan = plan_dequantization(source, options);
  return carry_out(source, std::move(plan), output, options.job, options.dry_run);
}

}  // namespace kvant::io
