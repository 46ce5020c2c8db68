#include "kvant/io/quantize_checkpoint.hpp"

#include <array>
#include <utility>

#include "io/convert/quantize_plan.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

constexpr std::array<std::pair<WeightScheme, std::string_view>, 6> kNames = {{
    {WeightScheme::keep, "keep"},
    {WeightScheme::llm_int8, "llm-int8"},
    {WeightScheme::int8, "int8"},
    {WeightScheme::fp16, "fp16"},
    {WeightScheme::bf16, "bf16"},
    {WeightScheme::fp32, "fp32"},
}};

/// Writes what was planned, unless it is a dry run.
CheckpointSummary carry_out(CheckpointSource& source, QuantizePlan plan,
                            const std::filesystem::path& model, const std::filesystem::path& output,
                            const JobOptions& options, bool dry_run) {
  const std::vector<std::filesystem::path> companions = source.companions();
  for (const auto& file : companions) {
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
  writer_options.source = model;
  CheckpointWriter writer(output, std::move(plan.outputs), writer_options);
  run_jobs(plan.jobs, writer, options);
  writer.add_file("config.json", source.config().text());
  for (const auto& file : companions) writer.copy_file(file);
  if (options.cancel != nullptr && options.cancel->load()) {
    throw Error(ErrorCode::cancelled, "stopped; nothing was written");
  }
  writer.commit();
  plan.summary.shards = writer.shards();
  return std::move(plan.summary);
}

}  // namespace

std::string_view to_string(WeightScheme scheme) noexcept {
  for (const auto& [value, name] : kNames) {
    if (value == scheme) return name;
  }
  return "unknown";
}

std::optional<WeightScheme> weight_scheme_from_name(std::string_view name) noexcept {
  for (const auto& [value, text] : kNames) {
    if (text == name) return value;
  }
  return std::nullopt;
}

CheckpointSummary quantize_checkpoint(const std::filesystem::path& model,
                                      const std::filesystem::path& output,
                                      const QuantizeCheckpointOptions& options) {
  CheckpointSource source(model);
  QuantizePlan plan = plan_quantization(source, options);
  return carry_out(source, std::move(plan), model, output, options.job, options.dry_run);
}

CheckpointSummary dequantize_checkpoint(const std::filesystem::path& model,
                                        const std::filesystem::path& output,
                                        const DequantizeCheckpointOptions& options) {
  CheckpointSource source(model);
  QuantizePlan plan = plan_dequantization(source, options);
  return carry_out(source, std::move(plan), model, output, options.job, options.dry_run);
}

}  // namespace kvant::io
