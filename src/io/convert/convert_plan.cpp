// From GPTQ's or AWQ's form to the other: what becomes of each tensor, and what cannot be.

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "io/convert/quantize_plan.hpp"
#include "io/convert/regroup_jobs.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

const char* name_of(GroupForm form) {
  switch (form) {
    case GroupForm::gptq: return "GPTQ (version 2)";
    case GroupForm::gptq_v1: return "GPTQ (version 1)";
    case GroupForm::awq: break;
  }
  return "AWQ";
}

class ConversionPlanner {
 public:
  ConversionPlanner(const CheckpointSource& source, const ConvertCheckpointOptions& options)
      : source_(source), options_(options) {}

  QuantizePlan make() {
    const Checkpoint& checkpoint = source_.checkpoint();
    plan_.metadata = checkpoint.metadata();
    plan_.metadata.emplace("format", "pt");
    plan_.summary.model_type = source_.config().model_type();
    plan_.summary.warnings = checkpoint.warnings();
    const std::vector<StoredLayer> layers = quantized_layers(checkpoint, source_.hints());
    if (layers.empty()) {
      throw Error(ErrorCode::unsupported,
                  "the model has no quantized layers: there is nothing to convert (kvant quantize "
                  "makes them)");
    }
    check_quantization_config(source_, layers);
    for (const SourceTensor& tensor : source_.tensors()) by_name_[tensor.info->name] = tensor;
    for (const StoredLayer& layer : layers) add_layer(layer);
    for (const SourceTensor& tensor : source_.tensors()) {
      plan_.summary.bytes_before += tensor.info->bytes;
      if (!done_.contains(tensor.info->name)) copy(tensor);
    }
    for (const TensorSpec& tensor : plan_.outputs) plan_.summary.bytes_after += byte_size(tensor);
    write_config(layers);
    return std::move(plan_);
  }

 private:
  [[nodiscard]] bool to_awq() const { return options_.to == GroupForm::awq; }

  [[noreturn]] void refuse(const StoredLayer& layer, const std::string& what) const {
    throw Error(ErrorCode::unsupported, "layer " + in_quotes(layer.name) + " " + what + ", which " +
                                            name_of(options_.to) + " cannot hold");
  }

  void copy(const SourceTensor& tensor) {
    plan_.outputs.push_back({tensor.info->name, tensor.info->dtype, tensor.info->shape});
    plan_.jobs.push_back(copy_job(tensor));
    done_.insert(tensor.info->name);
  }

  void add_layer(const StoredLayer& layer) {
    const StoredFormat& form = form_of(source_.checkpoint(), layer);
    const auto rows = form.open(source_.checkpoint(), layer);
    const auto* groups = dynamic_cast<const PackedGroupRows*>(rows.get());
    const bool known = form.quant_method() == "gptq" || form.quant_method() == "awq";
    if (groups == nullptr || !known) {
      throw Error(ErrorCode::unsupported,
                  "layer " + in_quotes(layer.name) + " is stored as " +
                      std::string(form.quant_method()) +
                      " has it; layers of GPTQ and AWQ are converted into one another");
    }
    const PackedGroups& shape = groups->shape();
    check_shape(layer, *groups);
    check_zeros(layer, *groups);
    const std::string index = layer.name + kGroupIndex;
    const bool has_index = by_name_.contains(index);
    const RegroupedLayer target{
        .name = layer.name,
        .from = shape,
        .to = to_awq() ? GroupPacking::awq_gemm : GroupPacking::gptq,
        .zeros_less = static_cast<std::uint16_t>(options_.to == GroupForm::gptq_v1 ? 1 : 0),
        .writes_index = !to_awq() && !has_index};
    PlannedLayer planned;
    planned.name = layer.name;
    planned.scheme = *layer.format;
    planned.stored = DType::int32;
    planned.shape = {static_cast<std::uint64_t>(shape.outputs),
                     static_cast<std::uint64_t>(shape.inputs)};
    planned.bytes_before = layer.bytes;
    const std::size_t first = plan_.outputs.size();
    add_tensors(layer, target, has_index);
    for (std::size_t i = first; i < plan_.outputs.size(); ++i) {
      planned.bytes_after += byte_size(plan_.outputs[i]);
    }
    plan_.summary.layers.push_back(std::move(planned));
  }

  void add_tensors(const StoredLayer& layer, const RegroupedLayer& target, bool has_index) {
    const PackedGroups& shape = target.from;
    const auto outputs = static_cast<std::uint64_t>(shape.outputs);
    const auto inputs = static_cast<std::uint64_t>(shape.inputs);
    const auto groups = static_cast<std::uint64_t>(shape.groups);
    const auto bits = static_cast<std::uint64_t>(shape.bits);
    const SourceTensor codes = by_name_.at(layer.tensor);
    if (shape.packing == target.to) {
      copy(codes);
    } else {
      std::vector<std::uint64_t> lines = {inputs, outputs / 8};
      if (target.to == GroupPacking::gptq) lines = {inputs / 8, outputs};
      plan_.outputs.push_back({layer.tensor, DType::int32, std::move(lines)});
      plan_.jobs.push_back(regroup_codes_job(codes, target));
      done_.insert(layer.tensor);
    }
    const std::string zeros = layer.name + kPackedZeros;
    plan_.outputs.push_back({zeros, DType::int32, {groups, outputs * bits / 32}});
    plan_.jobs.push_back(
        regroup_zeros_job(by_name_.at(zeros), source_.checkpoint(), layer, target));
    done_.insert(zeros);
    const SourceTensor scales = by_name_.at(layer.name + kGroupScales);
    if (shape.packing == GroupPacking::awq_gemv) {
      plan_.outputs.push_back({scales.info->name, scales.info->dtype, {groups, outputs}});
      done_.insert(scales.info->name);
    } else {
      copy(scales);
    }
    const std::string index = layer.name + kGroupIndex;
    if (has_index && !to_awq()) copy(by_name_.at(index));
    if (target.writes_index) plan_.outputs.push_back({index, DType::int32, {inputs}});
    done_.insert(index);
  }

  void check_shape(const StoredLayer& layer, const PackedGroupRows& groups) {
    const PackedGroups& shape = groups.shape();
    const std::int64_t size = groups.group_size();
    ordered_ = ordered_ || size == 0;
    if (shape.outputs % 8 != 0 || shape.inputs % 8 != 0) {
      refuse(layer, "is [" + std::to_string(shape.outputs) + ", " + std::to_string(shape.inputs) +
                        "], not in eights of outputs and inputs");
    }
    if (!bits_) bits_ = shape.bits;
    if (*bits_ != shape.bits) {
      refuse(layer, "has codes of " + std::to_string(shape.bits) + " bits, others have " +
                        std::to_string(*bits_));
    }
    if (!to_awq()) return;
    if (shape.bits != 4) refuse(layer, "has codes of " + std::to_string(shape.bits) + " bits");
    if (size == 0) refuse(layer, "has groups in the order of its activations (g_idx)");
    if (size * shape.groups != shape.inputs) {
      refuse(layer, "has " + std::to_string(shape.inputs) + " inputs in groups of " +
                        std::to_string(size) + ", the last of them short");
    }
  }

  void check_zeros(const StoredLayer& layer, const PackedGroupRows& groups) {
    const int largest = (1 << groups.shape().bits) - 1;
    const int lowest = options_.to == GroupForm::gptq_v1 ? 1 : 0;
    const std::int64_t outputs = groups.shape().outputs;
    const std::vector<std::uint16_t>& zeros = groups.values().zeros;
    for (std::size_t i = 0; i < zeros.size(); ++i) {
      if (zeros[i] >= lowest && zeros[i] <= largest + lowest) continue;
      refuse(layer, "has the zero point " + std::to_string(zeros[i]) + " (group " +
                        std::to_string(static_cast<std::int64_t>(i) / outputs) + ", output " +
                        std::to_string(static_cast<std::int64_t>(i) % outputs) + ")");
    }
    const auto all_are = [&](int zero) {
      return std::all_of(zeros.begin(), zeros.end(), [&](auto z) { return z == zero; });
    };
    const int middle = (largest + 1) / 2;
    symmetric_ = symmetric_ && all_are(middle);
    // Readers take a layer that holds nothing but the middle for a symmetric one.
    if (lowest == 1 && all_are(middle + 1)) {
      refuse(layer, "has " + std::to_string(middle + 1) +
                        " for every zero point, which would be read as " + std::to_string(middle));
    }
  }

  /// The group size of config.json: one for all layers, or -1: one group a row.
  [[nodiscard]] std::int64_t group_size(const std::vector<StoredLayer>& layers) const {
    const std::int64_t said = group_size_of(group_config(source_.checkpoint()));
    std::optional<std::int64_t> common;
    bool whole_rows = true;
    const StoredLayer* other = nullptr;
    for (const StoredLayer& layer : layers) {
      const auto rows = form_of(source_.checkpoint(), layer).open(source_.checkpoint(), layer);
      const std::int64_t size = dynamic_cast<const PackedGroupRows&>(*rows).group_size();
      whole_rows = whole_rows && size == layer.inputs;
      if (!common) common = size;
      if (size != *common) other = &layer;
    }
    if (whole_rows) return -1;
    if (other == nullptr && *common != 0) return *common;
    if (!to_awq()) return said != 0 ? said : -1;  // g_idx says it of each layer
    refuse(*other, "has groups of another size than " + in_quotes(layers.front().name));
  }

  void write_config(const std::vector<StoredLayer>& layers) {
    QuantizationFacts facts;
    facts.format = WeightFormat::int4_group;
    facts.block = group_size(layers);
    facts.zero_points = !symmetric_;
    for (const StoredLayer& layer : find_linear_layers(source_.checkpoint(), source_.hints())) {
      if (!layer.quantized()) facts.float_layers.push_back(layer.name);
    }
    const StoredFormat* form = form_writing(WeightFormat::int4_group, to_awq() ? "awq" : "gptq");
    nlohmann::ordered_json section = form->quantization_config(facts);
    section["bits"] = bits_.value_or(4);
    if (!to_awq()) {
      section["desc_act"] = ordered_;
      if (options_.to == GroupForm::gptq_v1) section["checkpoint_format"] = "gptq";
    }
    ConfigFile config = source_.config();
    config.clear_quantization();
    config.set_quantization(section);
    plan_.config = config.text();
  }

  const CheckpointSource& source_;
  const ConvertCheckpointOptions& options_;
  QuantizePlan plan_;
  std::map<std::string, SourceTensor> by_name_;
  std::set<std::string> done_;  ///< tensors that have a job, or go
  std::optional<int> bits_;
  bool ordered_ = false;
  bool symmetric_ = true;
};

}  // namespace

std::optional<GroupForm> group_form_from_name(std::string_view name) noexcept {
  if (name == "gptq") return GroupForm::gptq;
  if (name == "gptq-v1") return GroupForm::gptq_v1;
  if (name == "awq") return GroupForm::awq;
  return std::nullopt;
}

QuantizePlan plan_conversion(const CheckpointSource& source,
                             const ConvertCheckpointOptions& options) {
  return ConversionPlanner(source, options).make();
}

}  // namespace kvant::io
