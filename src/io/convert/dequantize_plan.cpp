#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "io/checkpoint/foreign_formats.hpp"
#include "io/checkpoint/linear_rules.hpp"
#include "io/convert/quantize_plan.hpp"
#include "io/layers/stored_format.hpp"
#include "kvant/error.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/int8_checkpoint.hpp"

namespace kvant::io {
namespace {

/// What the quantized layers become.
DType target_type(const CheckpointSource& source, const DequantizeCheckpointOptions& options) {
  const std::optional<DType> named = dtype_from_name(source.config().dtype());
  const DType to =
      options.dtype.value_or(named && is_convertible(*named) ? *named : DType::float32);
  if (!is_convertible(to)) {
    throw Error(ErrorCode::invalid_argument, "dequantize: the dtype is " +
                                                 std::string(kvant::to_string(to)) +
                                                 ", not float32, float16 or bfloat16");
  }
  return to;
}

/// The tensors that only quantized layers have.
std::set<std::string> parts_of(const Checkpoint& checkpoint,
                               const std::vector<StoredLayer>& layers) {
  std::set<std::string> names;
  for (const StoredLayer& layer : layers) {
    for (const LayerPart& part : form_of(checkpoint, layer).parts()) {
      names.insert(layer.name + std::string(part.suffix));
    }
  }
  return names;
}

}  // namespace

void check_quantization_config(const CheckpointSource& source,
                               const std::vector<StoredLayer>& layers) {
  const nlohmann::json section = source.config().quantization();
  if (!section.is_object()) return;  // codes and scales say all that must be known
  std::map<const StoredFormat*, std::set<std::string>> by_form;
  for (const StoredLayer& layer : layers) {
    by_form[&form_of(source.checkpoint(), layer)].insert(layer.name);
  }
  for (const auto& [form, names] : by_form) {
    const auto method = section.find("quant_method");
    const bool named = method != section.end() && method->is_string();
    if (!named || !form->is_method(method->get<std::string>())) continue;
    form->check_config(section, names, [&](const std::string& wrong) {
      throw FormatError(FormatErrorKind::structure,
                        (source.folder() / "config.json").string() + ": " + wrong);
    });
  }
}

QuantizePlan plan_dequantization(const CheckpointSource& source,
                                 const DequantizeCheckpointOptions& options) {
  const Checkpoint& checkpoint = source.checkpoint();
  if (const auto method = foreign_quantization(source.hints(), checkpoint.tensors())) {
    throw Error(ErrorCode::unsupported,
                "the model is quantized by " + *method + ", which is not read here");
  }
  const std::vector<StoredLayer> layers = quantized_layers(checkpoint, source.hints());
  check_quantization_config(source, layers);
  const DType to = target_type(source, options);
  if (layers.empty()) {
    throw Error(ErrorCode::unsupported,
                "the model has no quantized layers: there is nothing to dequantize");
  }
  const LinearRules rules(source.hints());
  const std::set<std::string> parts = parts_of(checkpoint, layers);
  std::map<std::string, const StoredLayer*> by_weight;
  for (const StoredLayer& layer : layers) {
    by_weight.emplace(layer.tensor, &layer);
  }

  QuantizePlan plan;
  plan.metadata = checkpoint.metadata();
  plan.metadata.emplace("format", "pt");
  plan.metadata.erase(std::string(kOutliersMetadata));
  plan.summary.model_type = source.config().model_type();
  plan.summary.warnings = checkpoint.warnings();
  for (const SourceTensor& tensor : source.tensors()) {
    const TensorInfo& info = *tensor.info;
    plan.summary.bytes_before += info.bytes;
    if (parts.contains(info.name)) continue;
    if (const auto it = by_weight.find(info.name); it != by_weight.end()) {
      const StoredLayer& stored = *it->second;
      PlannedLayer layer;
      layer.name = stored.name;
      layer.stored = info.dtype;
      layer.shape = info.shape;
      layer.bytes_before = info.bytes;
      layer.kept_columns = static_cast<std::int64_t>(
          form_of(checkpoint, stored).open(checkpoint, stored)->kept_columns().size());
      std::vector<std::uint64_t> shape = {static_cast<std::uint64_t>(stored.outputs),
                                          static_cast<std::uint64_t>(stored.inputs)};
      const bool transposed = rules.transposed(stored.name);
      if (transposed) std::swap(shape[0], shape[1]);
      plan.outputs.push_back({stored.name + std::string(kWeightSuffix), to, std::move(shape)});
      plan.jobs.push_back(dequantize_job(tensor, checkpoint, stored, to, transposed));
      layer.bytes_after = byte_size(plan.outputs.back());
      plan.summary.layers.push_back(std::move(layer));
    } else if (options.dtype && is_convertible(info.dtype) && info.dtype != to) {
      plan.outputs.push_back({info.name, to, info.shape});
      plan.jobs.push_back(convert_job(tensor, to));
    } else {
      plan.outputs.push_back({info.name, info.dtype, info.shape});
      plan.jobs.push_back(copy_job(tensor));
    }
  }
  for (const TensorSpec& tensor : plan.outputs) plan.summary.bytes_after += byte_size(tensor);
  ConfigFile config = source.config();
  config.clear_quantization();
  config.set_dtype(std::string(kvant::to_string(to)));
  plan.config = config.text();
  return plan;
}

}  // namespace kvant::io
