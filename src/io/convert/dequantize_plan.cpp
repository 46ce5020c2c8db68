#include <set>
#include <utility>

#include "io/checkpoint/linear_rules.hpp"
#include "io/convert/quantize_plan.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

/// Judges the model and says what its float tensors become.
DType target_type(CheckpointSource& source, const DequantizeCheckpointOptions& options) {
  const auto method = source.config().quant_method();
  if (method && !source.config().is_8bit()) {
    throw Error(ErrorCode::unsupported,
                "the model's quantization_config (" + *method +
                    ") is not bitsandbytes' 8-bit form, the only one that is read here");
  }
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

/// The tensors that only 8-bit layers have.
std::set<std::string> companions_of(const std::vector<std::string>& modules) {
  std::set<std::string> result;
  for (const std::string& name : modules) {
    for (const char* part :
         {".SCB", ".weight_format", ".kvant_keep_columns", ".kvant_keep_weights"}) {
      result.insert(name + part);
    }
  }
  return result;
}

}  // namespace

QuantizePlan plan_dequantization(CheckpointSource& source,
                                 const DequantizeCheckpointOptions& options) {
  const Checkpoint& checkpoint = source.checkpoint();
  const std::vector<std::string> names = int8_modules(checkpoint);
  const DType to = target_type(source, options);
  if (names.empty()) {
    throw Error(ErrorCode::unsupported,
                "the model has no 8-bit layers: there is nothing to dequantize");
  }
  const bool transposed = LinearRules(source.config().model_type(), std::nullopt).transposed();
  const std::set<std::string> belonging = companions_of(names);

  QuantizePlan plan;
  plan.metadata = checkpoint.metadata();
  plan.metadata.emplace("format", "pt");
  plan.metadata.erase(std::string(kOutliersMetadata));
  plan.summary.model_type = source.config().model_type();
  plan.summary.warnings = checkpoint.warnings();
  for (const SourceTensor& tensor : source.tensors()) {
    const TensorInfo& info = *tensor.info;
    plan.summary.bytes_before += info.bytes;
    if (belonging.contains(info.name)) continue;
    const auto module = layer_of_weight(info.name);
    if (module && info.dtype == DType::int8) {
      PlannedLayer layer;
      layer.name = *module;
      layer.stored = info.dtype;
      layer.shape = info.shape;
      layer.bytes_before = info.bytes;
      Int8Module stored = read_int8_module(checkpoint, layer.name);
      layer.kept_columns = static_cast<std::int64_t>(stored.keep_columns.size());
      std::vector<std::uint64_t> shape = info.shape;
      if (transposed) std::swap(shape[0], shape[1]);
      plan.outputs.push_back({info.name, to, std::move(shape)});
      plan.jobs.push_back(dequantize_job(tensor, std::move(stored), to, transposed));
      layer.bytes_after = byte_size(plan.outputs.back());
      plan.summary.layers.push_back(std::move(layer));
    } else if (is_convertible(info.dtype) && info.dtype != to) {
      plan.outputs.push_back({info.name, to, info.shape});
      plan.jobs.push_back(convert_job(tensor, to));
    } else {
      plan.outputs.push_back({info.name, info.dtype, info.shape});
      plan.jobs.push_back(copy_job(tensor));
    }
  }
  for (const TensorSpec& tensor : plan.outputs) plan.summary.bytes_after += byte_size(tensor);
  source.config().clear_quantization();
  source.config().set_dtype(std::string(kvant::to_string(to)));
  return plan;
}

}  // namespace kvant::io
