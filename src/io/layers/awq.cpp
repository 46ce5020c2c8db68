// AWQ's forms (AutoAWQ "gemm" and "gemv", which llm-awq's early files have too): see
// packed_groups.hpp for the tensors. Zero points are stored as they are.

#include <array>
#include <string>
#include <utility>

#include "io/layers/packed_groups.hpp"
#include "io/layers/packed_groups_writer.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

bool is_read(const nlohmann::json& version) {
  if (!version.is_string()) return false;
  std::string name = version.get<std::string>();
  for (char& c : name) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return name == "gemm" || name == "gemv";
}

class Awq final : public PackedGroupsFormat {
  static constexpr std::array kParts{LayerPart{kPackedZeros}, LayerPart{kGroupScales, true, true}};

 public:
  Awq() : PackedGroupsFormat(GroupPacking::awq_gemm) {}
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    return weight.dtype == DType::int32 &&
           group_packing_of(find, weight, layer_of(weight)) != GroupPacking::gptq;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    try {
      StoredLayer layer = packed_groups_layer(shape_of(find, weight), weight);
      add_parts(layer, find, kParts);
      return layer;
    } catch (const FormatError&) {
      return std::nullopt;
    }
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const FindTensor find = find_in(checkpoint);
    const TensorInfo& weight = *find(layer.tensor).info;
    PackedGroups shape = shape_of(find, weight);
    const nlohmann::json section = group_config(checkpoint);
    if (section.is_object() && section.contains("version") && !is_read(section["version"])) {
      throw FormatError(FormatErrorKind::unsupported,
                        "version " + section["version"].dump(-1, ' ', true).substr(0, 60) +
                            " of AWQ is not read; gemm and gemv are");
    }
    const std::int64_t said = group_size_of(section);
    if (shape.packing == GroupPacking::awq_gemv) {
      // Scales are padded, so that the tensors do not say how many groups there are.
      if (said == 0) {
        throw FormatError(FormatErrorKind::bad_scales,
                          "layer " + in_quotes(layer.name) +
                              ": the group size of AWQ's gemv form must be in config.json "
                              "(quantization_config.group_size)");
      }
      const std::int64_t size = said == -1 ? shape.inputs : said;
      shape = packed_groups_of(find, weight, layer.name, shape.packing,
                               (shape.inputs + size - 1) / size);
    }
    if (shape.inputs % shape.groups != 0) {
      throw FormatError(FormatErrorKind::bad_scales, "layer " + in_quotes(layer.name) + ": " +
                                                         std::to_string(shape.groups) +
                                                         " groups of scales do not divide " +
                                                         std::to_string(shape.inputs) + " inputs");
    }
    const std::int64_t size = shape.inputs / shape.groups;
    if (said != 0 && size != (said == -1 ? shape.inputs : said)) {
      throw FormatError(FormatErrorKind::bad_scales, "layer " + in_quotes(layer.name) +
                                                         " has groups of " + std::to_string(size) +
                                                         " inputs; config.json says " +
                                                         std::to_string(said));
    }
    GroupValues values = read_group_values(find, layer.name, shape);
    return std::make_unique<PackedGroupRows>(shape, std::move(values),
                                             groups_of_neighbours(shape.inputs, size));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    try {
      const PackedGroups shape = shape_of(find, *weight.info);
      if (shape.packing == GroupPacking::awq_gemv) return;  // padding has scales of 0
      static_cast<void>(read_group_values(find, layer_of(*weight.info), shape));
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
  }

  bool verify_part(const FindTensor&, const TensorView& part, Findings& findings) const override {
    if (part.info->name.ends_with(kGroupScales)) verify_group_scales(part, findings);
    return true;
  }

  [[nodiscard]] std::string_view quant_method() const override { return "awq"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_group_config(section, quant_method(), layers, error);
    if (const auto it = section.find("version"); it != section.end() && !is_read(*it)) {
      error("version is " + it->dump(-1, ' ', true).substr(0, 60) + "; gemm and gemv are read");
    }
  }

  /// Words hold 8 outputs; a line of a few words is written at once.
  [[nodiscard]] std::uint64_t rows_together(const NewLayer&) const override { return 64; }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    nlohmann::ordered_json config;
    config["bits"] = 4;
    config["group_size"] = facts.block;
    config["modules_to_not_convert"] = facts.float_layers;
    config["quant_method"] = "awq";
    config["version"] = "gemm";
    config["zero_point"] = facts.zero_points;
    return config;
  }

 private:
  static PackedGroups shape_of(const FindTensor& find, const TensorInfo& weight) {
    const std::string layer = layer_of(weight);
    return packed_groups_of(find, weight, layer, group_packing_of(find, weight, layer));
  }
};

}  // namespace

const StoredFormat& awq() {
  static const Awq form;
  return form;
}

}  // namespace kvant::io
