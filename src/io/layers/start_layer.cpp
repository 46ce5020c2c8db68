#include "io/layers/start_layer.hpp"

#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {

std::string type_and_shape(const TensorInfo& info) {
  return describe_tensor(info.dtype, info.shape);
}

std::string described(const TensorInfo& info) {
  return "tensor " + in_quotes(info.name) + " is " + type_and_shape(info);
}

void refuse_tensor(FormatErrorKind kind, const TensorInfo& info, const std::string& what) {
  throw FormatError(kind, described(info) + what);
}

bool is_weight_matrix(const TensorInfo& weight) noexcept {
  constexpr auto kMost = static_cast<std::uint64_t>(kMaxDimension);
  return weight.shape.size() == 2 && weight.shape[0] > 0 && weight.shape[1] > 0 &&
         weight.shape[0] <= kMost && weight.shape[1] <= kMost;
}

std::string layer_of(const TensorInfo& weight, std::string_view suffix) {
  return weight.name.substr(0, weight.name.size() - suffix.size());
}

StoredLayer start_layer(const TensorInfo& weight, std::optional<WeightFormat> format,
                        std::string_view suffix) {
  StoredLayer layer;
  layer.name = layer_of(weight, suffix);
  layer.tensor = weight.name;
  layer.format = format;
  layer.dtype = weight.dtype;
  layer.bytes = weight.bytes;
  return layer;
}

void add_parts(StoredLayer& layer, const FindTensor& find, std::span<const LayerPart> parts) {
  for (const LayerPart& part : parts) {
    const TensorView view = find(layer.name + std::string(part.suffix));
    if (view.info == nullptr) continue;
    layer.scales += view.info->bytes;
    layer.bytes += view.info->bytes;
  }
}

StoredLayer matrix_layer(const TensorInfo& weight, WeightFormat format, const FindTensor& find,
                         std::span<const LayerPart> parts) {
  StoredLayer layer = start_layer(weight, format);
  layer.outputs = static_cast<std::int64_t>(weight.shape[0]);
  layer.inputs = static_cast<std::int64_t>(weight.shape[1]);
  add_parts(layer, find, parts);
  return layer;
}

}  // namespace kvant::io
