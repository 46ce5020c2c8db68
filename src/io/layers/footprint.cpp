#include "kvant/io/footprint.hpp"

#include <algorithm>
#include <array>
#include <map>

#include "io/file/checked.hpp"
#include "io/layers/stored_format.hpp"
#include "kvant/error.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {
namespace {

/// Ends of the names of floating-point tensors that are constants.
constexpr std::array kFloatBuffers{".running_mean", ".running_var", ".inv_freq", ".masked_bias"};

bool is_floating(DType dtype) {
  return describe(dtype).kind == DTypeKind::floating;
}

bool is_buffer(const TensorInfo& info) {
  if (!is_floating(info.dtype) && describe(info.dtype).kind != DTypeKind::complex) return true;
  return std::any_of(kFloatBuffers.begin(), kFloatBuffers.end(),
                     [&](const char* end) { return info.name.ends_with(end); });
}

void add(std::uint64_t& sum, std::uint64_t bytes, const std::string& name) {
  const auto result = checked_add(sum, bytes);
  if (!result) {
    throw FormatError(FormatErrorKind::overflow, name + ": the model's bytes overflow 64 bits");
  }
  sum = *result;
}

}  // namespace

Footprint footprint(std::span<const ModelTensor> tensors, const FootprintRule& rule) {
  Footprint result;
  const StoredFormat* form = nullptr;
  if (rule.weights) {
    form = form_writing(*rule.weights);
    if (form == nullptr) {
      throw Error(ErrorCode::unsupported, "footprint: checkpoints are not written in " +
                                              std::string(to_string(*rule.weights)));
    }
  }
  for (const ModelTensor& tensor : tensors) {
    const std::uint64_t stored = tensor_bytes(tensor.shape, tensor.dtype, tensor.name);
    const bool floating = is_floating(tensor.dtype);
    const bool cast = floating && rule.cast.has_value();
    const auto bytes = [&] {
      return cast ? tensor_bytes(tensor.shape, *rule.cast, tensor.name) : stored;
    };
    switch (tensor.role) {
      case TensorRole::scale: add(result.scales, stored, tensor.name); break;
      case TensorRole::buffer: add(result.buffers, bytes(), tensor.name); break;
      case TensorRole::linear_weight:
        if (floating && form != nullptr && tensor.shape.size() == 2) {
          const std::vector<TensorSpec> specs =
              form->specs({.name = {},
                           .outputs = tensor.shape[tensor.transposed ? 1 : 0],
                           .inputs = tensor.shape[tensor.transposed ? 0 : 1],
                           .format = *rule.weights,
                           .dtype = tensor.dtype});
          for (const TensorSpec& spec : specs) {  // that of the codes comes first
            add(&spec == specs.data() ? result.parameters : result.scales,
                tensor_bytes(spec.shape, spec.dtype, tensor.name), tensor.name);
          }
          break;
        }
        if (floating && rule.code_bits > 0 && tensor.shape.size() == 2) {
          const DType byte = DType::uint8;
          const std::uint64_t elements = tensor_bytes(tensor.shape, byte, tensor.name);
          const auto bits = static_cast<std::uint64_t>(rule.code_bits);
          add(result.parameters, elements / 8 * bits + (elements % 8 * bits + 7) / 8, tensor.name);
          const std::uint64_t outputs = tensor.shape[tensor.transposed ? 1 : 0];
          const auto rows = checked_mul(outputs, rule.scale_bytes_per_output);
          add(result.scales, rows.value_or(UINT64_MAX), tensor.name);
          add(result.scales, rule.scale_bytes_per_layer, tensor.name);
          add(result.buffers, rule.buffer_bytes_per_layer, tensor.name);
          break;
        }
        [[fallthrough]];
      case TensorRole::parameter: add(result.parameters, bytes(), tensor.name); break;
    }
  }
  return result;
}

std::vector<ModelTensor> model_tensors(const Checkpoint& checkpoint, const ModelHints& hints) {
  std::map<std::string, const StoredLayer*> weights;  // tensor name -> its layer
  const std::vector<StoredLayer> layers = find_linear_layers(checkpoint, hints);
  for (const StoredLayer& layer : layers) weights.emplace(layer.tensor, &layer);
  const FindTensor find = find_in(checkpoint);
  const auto is_scale = [&](const std::string& name) {
    const auto part = part_of_layer(find, name);
    if (!part) return false;
    const auto it = weights.find(part->layer + std::string(part->form->codes()));
    return it != weights.end() && it->second->quantized() &&
           &form_of(checkpoint, *it->second) == part->form;
  };
  std::vector<ModelTensor> result;
  result.reserve(checkpoint.tensors().size());
  for (const TensorInfo* info : checkpoint.tensors()) {
    ModelTensor tensor{info->name, info->dtype, info->shape, TensorRole::parameter, false};
    if (const auto it = weights.find(info->name); it != weights.end()) {
      tensor.role = it->second->stays_float ? TensorRole::parameter : TensorRole::linear_weight;
      tensor.transposed = it->second->transposed;
    } else if (is_scale(info->name)) {
      tensor.role = TensorRole::scale;
    } else if (is_buffer(*info)) {
      tensor.role = TensorRole::buffer;
    }
    result.push_back(std::move(tensor));
  }
  return result;
}

}  // namespace kvant::io
