#include "kvant/io/merge_checkpoint.hpp"

#include <algorithm>
#include <cmath>
#include <utility>

#include "io/checkpoint/foreign_formats.hpp"
#include "io/checkpoint/linear_rules.hpp"
#include "io/convert/quantize_plan.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

std::string shape_of(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (const std::uint64_t size : shape) {
    text.append(text.size() > 1 ? ", " : "").append(std::to_string(size));
  }
  return text + "]";
}

/// A unit is a row as it is stored.
class MergeJob final : public TensorJob {
 public:
  MergeJob(SourceTensor source, const LowRankChange& change, bool transposed)
      : TensorJob(source),
        change_(change),
        transposed_(transposed),
        cols_(source.info->shape[1]),
        element_(static_cast<std::uint64_t>(describe(source.info->dtype).bits / 8)) {}

  [[nodiscard]] std::uint64_t units() const override { return source().info->shape[0]; }
  [[nodiscard]] std::uint64_t unit_bytes() const override { return cols_ * sizeof(float); }

  void run(Worker& worker, std::uint64_t begin, std::uint64_t end, CheckpointWriter& out) override {
    const DType dtype = source().info->dtype;
    const std::uint64_t count = (end - begin) * cols_;
    worker.in.resize(std::max<std::size_t>(worker.in.size(), count * element_));
    worker.floats.resize(std::max<std::size_t>(worker.floats.size(), count + cols_));
    const std::span<std::byte> stored(worker.in.data(), count * element_);
    source().read(begin * cols_ * element_, stored);
    float* values = worker.floats.data();
    float* row_change = values + count;
    worker.kernels->convert(
        {stored.data(), dtype, values, DType::float32, static_cast<std::int64_t>(count)});
    for (std::uint64_t row = begin; row < end; ++row) {
      change_of(row, row_change);
      float* to = values + (row - begin) * cols_;
      for (std::uint64_t c = 0; c < cols_; ++c) to[c] += change_.scale * row_change[c];
    }
    worker.kernels->convert(
        {values, DType::float32, stored.data(), dtype, static_cast<std::int64_t>(count)});
    check(worker, values, stored, begin, count);
    out.write(source().info->name, begin * cols_ * element_, stored);
  }

 private:
  /// Row `row` of B A, or of its transpose.
  void change_of(std::uint64_t row, float* to) const {
    const auto r = static_cast<std::int64_t>(row);
    const auto cols = static_cast<std::int64_t>(cols_);
    std::fill(to, to + cols, 0.0f);
    for (std::int64_t k = 0; k < change_.a.rows(); ++k) {
      const float factor = transposed_ ? change_.a(k, r) : change_.b(r, k);
      for (std::int64_t c = 0; c < cols; ++c) {
        to[c] += factor * (transposed_ ? change_.b(c, k) : change_.a(k, c));
      }
    }
  }

  /// What the narrow type made of the sums: no number may have become an infinity.
  void check(const Worker& worker, const float* values, std::span<const std::byte> stored,
             std::uint64_t begin, std::uint64_t count) const {
    const DType dtype = source().info->dtype;
    for (std::uint64_t i = 0; i < count; ++i) {
      float back = values[i];
      if (dtype != DType::float32) {
        worker.kernels->convert({stored.data() + i * element_, dtype, &back, DType::float32, 1});
      }
      if (std::isfinite(back)) continue;
      throw Error(ErrorCode::not_finite,
                  "tensor " + in_quotes(source().info->name) + ": element " +
                      std::to_string(begin * cols_ + i) + " becomes " + std::to_string(values[i]) +
                      ", which " + std::string(kvant::to_string(dtype)) + " does not hold");
    }
  }

  const LowRankChange& change_;
  bool transposed_;
  std::uint64_t cols_;
  std::uint64_t element_;
};

/// The layer that a change is of: by its name, or by one with another beginning.
std::string find_layer(const Checkpoint& checkpoint, const std::string& name) {
  const std::string weight(kWeightSuffix);
  if (checkpoint.contains(name + weight)) return name;
  for (std::size_t dot = name.find('.'); dot != std::string::npos; dot = name.find('.', dot + 1)) {
    const std::string shorter = name.substr(dot + 1);
    // One part alone could be a layer of any block.
    if (shorter.find('.') == std::string::npos) break;
    if (checkpoint.contains(shorter + weight)) return shorter;
  }
  std::string found;
  for (const TensorInfo* info : checkpoint.tensors()) {
    if (!info->name.ends_with("." + name + weight)) continue;
    if (!found.empty()) {
      throw Error(ErrorCode::shape_mismatch, "the layer " + in_quotes(name) +
                                                 " may be that of tensor " + in_quotes(found) +
                                                 " or " + in_quotes(info->name));
    }
    found = info->name;
  }
  if (!found.empty()) return found.substr(0, found.size() - weight.size());
  throw Error(ErrorCode::shape_mismatch,
              "the model has no layer " + in_quotes(name) + ": the changes are another model's");
}

void check_change(const std::string& layer, const TensorInfo& weight, const LowRankChange& change,
                  bool transposed) {
  if (!is_convertible(weight.dtype)) {
    throw Error(ErrorCode::unsupported, "tensor " + in_quotes(weight.name) + " is " +
                                            std::string(kvant::to_string(weight.dtype)) +
                                            ", not float32, float16 or bfloat16");
  }
  std::vector<std::uint64_t> wanted = {static_cast<std::uint64_t>(change.b.rows()),
                                       static_cast<std::uint64_t>(change.a.cols())};
  if (transposed) std::swap(wanted[0], wanted[1]);
  if (weight.shape == wanted && change.a.rows() == change.b.cols()) return;
  throw Error(ErrorCode::shape_mismatch,
              "layer " + in_quotes(layer) + " has a weight " + shape_of(weight.shape) +
                  ", the change is of " + shape_of(wanted) + " (A [" +
                  std::to_string(change.a.rows()) + ", " + std::to_string(change.a.cols()) +
                  "], B [" + std::to_string(change.b.rows()) + ", " +
                  std::to_string(change.b.cols()) + "])");
}

QuantizePlan plan_merge(const CheckpointSource& source,
                        const std::map<std::string, LowRankChange>& changes,
                        const MergeCheckpointOptions& options) {
  const Checkpoint& checkpoint = source.checkpoint();
  if (const auto method = foreign_quantization(source.hints(), checkpoint.tensors())) {
    throw Error(ErrorCode::unsupported, "the model is quantized by " + *method);
  }
  if (!quantized_layers(checkpoint, source.hints()).empty()) {
    throw Error(ErrorCode::unsupported,
                "the model is quantized; merge into its floats (kvant dequantize), or run the "
                "adapter beside it (kvant run --adapter)");
  }
  const LinearRules rules(source.hints());
  std::map<std::string, const LowRankChange*> by_weight;
  for (const auto& [name, change] : changes) {
    const std::string layer = find_layer(checkpoint, name);
    if (!by_weight.emplace(layer + std::string(kWeightSuffix), &change).second) {
      throw Error(ErrorCode::invalid_argument, "two changes are of the layer " + in_quotes(layer));
    }
  }
  QuantizePlan plan;
  plan.metadata = checkpoint.metadata();
  plan.metadata.emplace("format", "pt");
  plan.summary.model_type = source.config().model_type();
  plan.summary.warnings = checkpoint.warnings();
  for (const SourceTensor& tensor : source.tensors()) {
    const TensorInfo& info = *tensor.info;
    plan.summary.bytes_before += info.bytes;
    plan.outputs.push_back({info.name, info.dtype, info.shape});
    const auto it = by_weight.find(info.name);
    if (it == by_weight.end()) {
      plan.jobs.push_back(copy_job(tensor));
      continue;
    }
    const std::string layer = info.name.substr(0, info.name.size() - kWeightSuffix.size());
    const bool transposed = rules.known() ? rules.transposed(layer) : options.transposed;
    check_change(layer, info, *it->second, transposed);
    plan.jobs.push_back(std::make_unique<MergeJob>(tensor, *it->second, transposed));
    PlannedLayer planned;
    planned.name = layer;
    planned.stored = info.dtype;
    planned.shape = info.shape;
    planned.bytes_before = planned.bytes_after = info.bytes;
    plan.summary.layers.push_back(std::move(planned));
  }
  std::sort(plan.summary.layers.begin(), plan.summary.layers.end(),
            [](const PlannedLayer& a, const PlannedLayer& b) { return a.name < b.name; });
  plan.summary.bytes_after = plan.summary.bytes_before;
  plan.config = source.config().text();
  return plan;
}

}  // namespace

CheckpointSummary merge_checkpoint(const std::filesystem::path& model,
                                   const std::filesystem::path& output,
                                   const std::map<std::string, LowRankChange>& changes,
                                   const MergeCheckpointOptions& options) {
  const CheckpointSource source(model);
  QuantizePlan plan = plan_merge(source, changes, options);
  return carry_out(source, std::move(plan), output, options.job, options.dry_run);
}

}  // namespace kvant::io
