#include "kvant/io/stored_layer.hpp"

#include <algorithm>
#include <optional>
#include <system_error>

#include "io/checkpoint/config_file.hpp"
#include "io/checkpoint/linear_rules.hpp"
#include "io/layers/quant_state.hpp"

namespace kvant::io {
namespace {

constexpr std::string_view kWeight = ".weight";
constexpr std::uint64_t kMaxDimension = std::uint64_t{1} << 31;

bool is_small_matrix(const TensorInfo& info) {
  return info.shape.size() == 2 && info.shape[0] > 0 && info.shape[1] > 0 &&
         info.shape[0] <= kMaxDimension && info.shape[1] <= kMaxDimension;
}

/// SCB beside codes, one scale for each output; what is wrong with it is verify's matter.
bool has_scales(const Checkpoint& checkpoint, const std::string& module, const TensorInfo& codes) {
  const TensorInfo* scb = checkpoint.find(module + ".SCB");
  return scb != nullptr && scb->dtype == DType::float32 && scb->shape.size() == 1 &&
         scb->shape[0] == codes.shape[0];
}

std::uint64_t bytes_of(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo* info = checkpoint.find(name);
  return info == nullptr ? 0 : info->bytes;
}

std::optional<StoredLayer> layer_of(const Checkpoint& checkpoint, const TensorInfo& weight,
                                    const LinearRules& rules) {
  StoredLayer layer;
  layer.name = weight.name.substr(0, weight.name.size() - kWeight.size());
  layer.dtype = weight.dtype;
  layer.bytes = weight.bytes;
  const auto view = [&](const std::string& name) {
    return checkpoint.contains(name) ? checkpoint.tensor(name) : TensorView{};
  };
  if (const auto state = find_quant_state(weight.name, view)) {
    layer.form = state->form;
    layer.outputs = state->outputs;
    layer.inputs = state->inputs;
    for (const char* part : {".absmax", ".quant_map", ".nested_absmax", ".nested_quant_map",
                             ".quant_state.bitsandbytes__nf4", ".quant_state.bitsandbytes__fp4"}) {
      layer.scales += bytes_of(checkpoint, weight.name + part);
    }
  } else if (!is_small_matrix(weight)) {
    return std::nullopt;
  } else if (weight.dtype == DType::int8 && has_scales(checkpoint, layer.name, weight)) {
    layer.form = StoredForm::int8;
    layer.outputs = static_cast<std::int64_t>(weight.shape[0]);
    layer.inputs = static_cast<std::int64_t>(weight.shape[1]);
    layer.scales = bytes_of(checkpoint, layer.name + ".SCB") +
                   bytes_of(checkpoint, layer.name + ".weight_format") +
                   bytes_of(checkpoint, layer.name + ".kvant_keep_columns") +
                   bytes_of(checkpoint, layer.name + ".kvant_keep_weights");
  } else if (describe(weight.dtype).kind == DTypeKind::floating) {
    const WeightKind kind = rules.judge(layer.name, weight);
    if (kind == WeightKind::other) return std::nullopt;
    layer.kept = kind == WeightKind::float_linear;
    // GPT-2's Conv1D multiplies from the other side; output heads are none.
    layer.transposed = rules.transposed() && !layer.kept;
    layer.outputs = static_cast<std::int64_t>(weight.shape[layer.transposed ? 1 : 0]);
    layer.inputs = static_cast<std::int64_t>(weight.shape[layer.transposed ? 0 : 1]);
  } else {
    return std::nullopt;
  }
  layer.bytes += layer.scales;
  return layer;
}

}  // namespace

std::string_view scheme_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::float32: return "fp32";
    case DType::float16: return "fp16";
    case DType::bfloat16: return "bf16";
    default: return to_string(dtype);
  }
}

std::string_view StoredLayer::scheme() const noexcept {
  switch (form) {
    case StoredForm::int8: return "int8";
    case StoredForm::nf4: return "nf4";
    case StoredForm::fp4: return "fp4";
    case StoredForm::floating: break;
  }
  return scheme_of(dtype);
}

bool natural_less(std::string_view a, std::string_view b) noexcept {
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto number = [&](std::string_view text, std::size_t& at) {
    while (at < text.size() && text[at] == '0') ++at;  // leading zeros do not count
    const std::size_t begin = at;
    while (at < text.size() && digit(text[at])) ++at;
    return text.substr(begin, at - begin);
  };
  std::size_t i = 0;
  std::size_t j = 0;
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      const std::string_view m = number(a, i);
      const std::string_view n = number(b, j);
      if (m.size() != n.size()) return m.size() < n.size();
      if (m != n) return m < n;
    } else if (a[i] != b[j]) {
      return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
    } else {
      ++i;
      ++j;
    }
  }
  if (a.size() - i != b.size() - j) return a.size() - i < b.size() - j;
  return a < b;  // "h.1" and "h.01": any fixed order
}

std::vector<StoredLayer> find_linear_layers(const Checkpoint& checkpoint, const ModelHints& kind) {
  const LinearRules rules(kind.model_type, kind.vocabulary);
  std::vector<StoredLayer> layers;
  for (const TensorInfo* info : checkpoint.tensors()) {
    if (!info->name.ends_with(kWeight)) continue;
    if (auto layer = layer_of(checkpoint, *info, rules)) layers.push_back(std::move(*layer));
  }
  std::sort(layers.begin(), layers.end(), [](const StoredLayer& a, const StoredLayer& b) {
    return natural_less(a.name, b.name);
  });
  return layers;
}

ModelHints model_hints_of(const std::filesystem::path& checkpoint) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(checkpoint, ignored);
  const auto file = (folder ? checkpoint : checkpoint.parent_path()) / "config.json";
  if (!std::filesystem::exists(file, ignored)) return {};
  try {
    const ConfigFile config(file);
    return {config.model_type(), config.vocabulary()};
  } catch (const Error&) {
    return {};
  }
}

}  // namespace kvant::io
