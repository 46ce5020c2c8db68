#include "kvant/io/quantize_checkpoint.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "io/checkpoint/companions.hpp"
#include "io/convert/quantize_plan.hpp"
#include "io/convert/rank_exchange.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

/// "not copied: a (why), b (why), and 3 more"
std::string left_behind(const std::vector<std::string>& left) {
  constexpr std::size_t kShown = 8;
  std::string text = "not copied: ";
  for (std::size_t i = 0; i < std::min(left.size(), kShown); ++i) {
    text += (i == 0 ? "" : ", ") + left[i];
  }
  if (left.size() > kShown) text += ", and " + std::to_string(left.size() - kShown) + " more";
  return text;
}

}  // namespace

CheckpointSummary carry_out(const CheckpointSource& source, QuantizePlan plan,
                            const std::filesystem::path& output, const JobOptions& options,
                            bool dry_run) {
  const Companions companions = find_companions(source.folder(), output);
  for (const auto& file : companions.files) {
    plan.summary.copied_files.push_back(file.generic_string());
  }
  if (!companions.left.empty()) {
    plan.summary.warnings.push_back({WarningKind::not_copied, left_behind(companions.left)});
  }
  if (dry_run) {
    plan.summary.shards = plan_shards(std::move(plan.outputs), options.max_shard_size).names;
    return std::move(plan.summary);
  }
  CheckpointWriterOptions writer_options;
  writer_options.max_shard_size = options.max_shard_size;
  writer_options.force = options.force;
  writer_options.metadata = std::move(plan.metadata);
  writer_options.replaceable = companions.files;
  writer_options.source = source.folder();
  std::optional<RankExchange> exchange;
  if (options.ranks != nullptr) {
    exchange.emplace(*options.ranks).keep_own(plan.jobs);
    if (!exchange->writes()) {
      writer_options.instead = [&](std::string_view tensor, std::uint64_t offset,
                                   std::span<const std::byte> bytes) {
        exchange->add(tensor, offset, bytes);
      };
    }
  }
  CheckpointWriter writer(output, std::move(plan.outputs), writer_options);
  run_jobs(plan.jobs, writer, options, exchange ? &*exchange : nullptr);
  plan.summary.shards = writer.shards();
  if (exchange && !exchange->writes()) return std::move(plan.summary);
  writer.add_file("config.json", plan.config);
  for (const auto& file : companions.files) writer.copy_file(source.folder() / file, file);
  if (options.cancel != nullptr && options.cancel->load()) {
    throw Error(ErrorCode::cancelled, "stopped; nothing was written");
  }
  writer.commit();
  return std::move(plan.summary);
}

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

CheckpointSummary convert_checkpoint(const std::filesystem::path& model,
                                     const std::filesystem::path& output,
                                     const ConvertCheckpointOptions& options) {
  const CheckpointSource source(model);
  QuantizePlan plan = plan_conversion(source, options);
  return carry_out(source, std::move(plan), output, options.job, options.dry_run);
}

}  // namespace kvant::io
