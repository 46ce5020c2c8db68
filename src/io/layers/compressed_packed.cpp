// compressed-tensors' "pack-quantized": NAME.weight_packed I32 [N, ceil(K b / 32)], an output's
// codes one after the other, the first in the lowest bits; NAME.weight_shape [N, K];
// NAME.weight_scale [N, groups]; where quantization is affine NAME.weight_zero_point I32 [ceil(N b
// / 32), groups], packed down the outputs; with an activation order NAME.weight_g_idx I32 [K].
// Codes and zero points are offset by 2^(b - 1). Value: (code - zero point) * scale.

#include <array>
#include <string>
#include <tuple>
#include <utility>

#include "io/layers/compressed_names.hpp"
#include "io/layers/compressed_tensors_config.hpp"
#include "io/layers/packed_groups.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr const char* kShape = ".weight_shape";
constexpr const char* kIndex = ".weight_g_idx";

TensorView view_of(const FindTensor& find, const std::string& layer, const char* suffix) {
  TensorView view = find(layer + suffix);
  if (view.info == nullptr) {
    throw FormatError(FormatErrorKind::missing_scales,
                      "layer " + in_quotes(layer) + " has " + std::string(kPackedWeight.substr(1)) +
                          ", but the tensor " + in_quotes(layer + suffix) + " is missing");
  }
  return view;
}

/// [N, K] as weight_shape says it.
std::pair<std::int64_t, std::int64_t> sizes_of(const TensorView& view) {
  std::vector<std::int64_t> sizes;
  if (view.info->dtype == DType::int64) sizes = values_of<std::int64_t>(view);
  if (view.info->dtype == DType::int32) {
    for (const std::int32_t size : values_of<std::int32_t>(view)) sizes.push_back(size);
  }
  const auto sane = [](std::int64_t size) { return size > 0 && size <= kMaxDimension; };
  if (sizes.size() != 2 || !sane(sizes[0]) || !sane(sizes[1])) {
    refuse_tensor(FormatErrorKind::size, *view.info,
                  "; two sizes of a weight are needed, I64 or I32");
  }
  return {sizes[0], sizes[1]};
}

/// Everything but the values.
PackedGroups packed_shape(const FindTensor& find, const TensorInfo& weight,
                          const std::string& layer) {
  PackedGroups shape{.packing = GroupPacking::by_rows};
  if (weight.dtype != DType::int32 || !is_weight_matrix(weight)) {
    refuse_tensor(FormatErrorKind::size, weight, ", not a matrix of I32 words");
  }
  std::tie(shape.outputs, shape.inputs) = sizes_of(view_of(find, layer, kShape));
  shape.bits = 0;
  for (const int bits : {2, 3, 4, 8}) {
    const PackedGroups tried{.bits = bits, .inputs = shape.inputs};
    if (tried.row_words() == static_cast<std::int64_t>(weight.shape[1])) shape.bits = bits;
  }
  if (shape.bits == 0 || static_cast<std::int64_t>(weight.shape[0]) != shape.outputs) {
    refuse_tensor(FormatErrorKind::size, weight,
                  "; its weight_shape says [" + std::to_string(shape.outputs) + ", " +
                      std::to_string(shape.inputs) +
                      "], whose codes of 2, 3, 4 or 8 bits do not fit it");
  }
  const TensorInfo& scales = *view_of(find, layer, kWeightScale).info;
  check_scale_type(scales);
  const bool matrix = scales.shape.size() == 2 && scales.shape[0] == weight.shape[0] &&
                      scales.shape[1] > 0 &&
                      scales.shape[1] <= static_cast<std::uint64_t>(shape.inputs);
  if (!matrix) {
    refuse_tensor(FormatErrorKind::bad_scales, scales,
                  "; " + std::to_string(shape.outputs) + " outputs need a row of scales each");
  }
  shape.groups = static_cast<std::int64_t>(scales.shape[1]);
  return shape;
}

GroupValues values_in(const FindTensor& find, const std::string& layer, const PackedGroups& shape) {
  const TensorView scales = view_of(find, layer, kWeightScale);
  ScaleGrid stored;  // as they lie: [N][groups]
  read_scales(stored, scales);
  const TensorView zeros = find(layer + kWeightZeroPoint);
  if (zeros.info != nullptr) {
    const PackedGroups down{.bits = shape.bits, .inputs = shape.outputs};
    const std::vector<std::uint64_t> wanted = {static_cast<std::uint64_t>(down.row_words()),
                                               static_cast<std::uint64_t>(shape.groups)};
    if (zeros.info->dtype != DType::int32 || zeros.info->shape != wanted) {
      refuse_tensor(FormatErrorKind::bad_scales, *zeros.info,
                    ", not I32 [" + std::to_string(wanted[0]) + ", " + std::to_string(wanted[1]) +
                        "]: a zero point for each scale, packed down the outputs");
    }
  }
  GroupValues values;
  values.scales.resize(stored.scales.size());
  values.zeros.resize(stored.scales.size());
  for (std::int64_t g = 0; g < shape.groups; ++g) {
    for (std::int64_t n = 0; n < shape.outputs; ++n) {
      const auto at = static_cast<std::size_t>(g * shape.outputs + n);
      values.scales[at] = stored.scales[static_cast<std::size_t>(n * shape.groups + g)];
      values.zeros[at] = static_cast<std::uint16_t>(
          zeros.info == nullptr ? 1u << (shape.bits - 1)
                                : packed_field(zeros.data, g, shape.groups, n, shape.bits));
    }
  }
  return values;
}

/// The group of each input.
std::vector<std::int32_t> groups_in(const FindTensor& find, const std::string& layer,
                                    const PackedGroups& shape, std::int64_t said) {
  if (const TensorView index = find(layer + kIndex); index.info != nullptr) {
    return read_group_index(index, shape);
  }
  const std::int64_t size = shape.inputs / shape.groups;
  const bool fits =
      shape.groups == 1 || (size * shape.groups == shape.inputs && (said <= 0 || said == size));
  if (!fits) {
    throw FormatError(FormatErrorKind::bad_scales,
                      "layer " + in_quotes(layer) + ": " + std::to_string(shape.groups) +
                          " groups of scales for " + std::to_string(shape.inputs) + " inputs" +
                          (said > 0 ? ", group_size is " + std::to_string(said) : ""));
  }
  return groups_of_neighbours(shape.inputs, size);
}

class CompressedPacked final : public StoredFormat {
  static constexpr std::array kParts{LayerPart{kWeightScale, true}, LayerPart{kWeightZeroPoint},
                                     LayerPart{kShape}, LayerPart{kIndex}};

 public:
  [[nodiscard]] std::string_view codes() const override { return kPackedWeight; }
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor&, const TensorInfo& weight) const override {
    return weight.dtype == DType::int32;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    try {
      const PackedGroups shape = packed_shape(find, weight, layer_of(weight, kPackedWeight));
      StoredLayer layer = start_layer(weight, group_format(shape.bits), kPackedWeight);
      layer.outputs = shape.outputs;
      layer.inputs = shape.inputs;
      add_parts(layer, find, kParts);
      return layer;
    } catch (const FormatError&) {
      return std::nullopt;
    }
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const FindTensor find = find_in(checkpoint);
    const PackedGroups shape = packed_shape(find, *find(layer.tensor).info, layer.name);
    const CompressedWeights said = compressed_weights_of(group_config(checkpoint), layer.name);
    if (said.bits != 0 && said.bits != shape.bits) {
      throw FormatError(FormatErrorKind::size, "layer " + in_quotes(layer.name) + " has codes of " +
                                                   std::to_string(shape.bits) +
                                                   " bits; config.json says " +
                                                   std::to_string(said.bits));
    }
    GroupValues values = values_in(find, layer.name, shape);
    auto groups = groups_in(find, layer.name, shape, said.group_size);
    return std::make_unique<PackedGroupRows>(shape, std::move(values), std::move(groups));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const std::string layer = layer_of(*weight.info, kPackedWeight);
    try {
      const PackedGroups shape = packed_shape(find, *weight.info, layer);
      static_cast<void>(values_in(find, layer, shape));
      static_cast<void>(groups_in(find, layer, shape, 0));
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
  }

  bool verify_part(const FindTensor&, const TensorView& part, Findings&) const override {
    return part.info->name.ends_with(kWeightScale);  // its weight has said it
  }

  [[nodiscard]] std::string_view quant_method() const override { return "compressed-tensors"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_compressed_config(section, layers, true, error);
  }
};

}  // namespace

const StoredFormat& compressed_packed() {
  static const CompressedPacked form;
  return form;
}

}  // namespace kvant::io
