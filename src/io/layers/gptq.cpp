// GPTQ's form (AutoGPTQ, GPTQModel): see packed_groups.hpp for the tensors. Files of version 1
// store zero points less one, those of version 2 ("checkpoint_format": "gptq_v2") as they are.

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <utility>

#include "io/layers/packed_groups.hpp"
#include "io/layers/packed_groups_writer.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/version.hpp"

namespace kvant::io {
namespace {

/// checkpoint_format, or what older files have for it; "" where it is not said.
std::string version_of(const nlohmann::json& section) {
  if (!section.is_object()) return {};
  for (const char* key : {"checkpoint_format", "format"}) {
    const auto it = section.find(key);
    if (it != section.end() && it->is_string()) return it->get<std::string>();
  }
  return {};
}

bool is_known_version(const std::string& version) {
  return version.empty() || version == "gptq" || version == "gptq_v2";
}

/// Whether GPTQModel wrote it, which takes one off whole words.
bool by_gptqmodel(const nlohmann::json& section) {
  if (!section.is_object()) return false;
  const auto meta = section.find("meta");
  if (meta == section.end() || !meta->is_object()) return false;
  const auto it = meta->find("quantizer");
  if (it == meta->end()) return false;
  const auto starts = [](const nlohmann::json& name) {
    return name.is_string() && name.get<std::string>().starts_with("gptqmodel");
  };
  return starts(*it) || (it->is_array() && std::any_of(it->begin(), it->end(), starts));
}

/// The zero points of a file of version 1, where `stored` has them less one. Symmetric ones that
/// were stored as they are, by writers that say "gptq" all the same, are left alone. A field of all
/// ones came from a zero point of 0 and is read as AutoGPTQ reads it, one more than the largest
/// code; from GPTQModel, whose subtraction borrows from the next field, it is added back the same
/// way.
void add_one(const TensorView& zeros, const PackedGroups& shape, bool borrowed,
             std::vector<std::uint16_t>& stored) {
  const unsigned middle = 1u << (shape.bits - 1);
  const unsigned largest = (1u << shape.bits) - 1;
  if (std::all_of(stored.begin(), stored.end(), [&](auto z) { return z == middle; })) return;
  const bool full = std::find(stored.begin(), stored.end(), largest) != stored.end();
  if (!full || !borrowed || shape.bits == 3) {
    for (std::uint16_t& zero : stored) zero = static_cast<std::uint16_t>(zero + 1);
    return;
  }
  const std::uint32_t ones = 0xFFFFFFFFu / largest;  // a one in each field
  const auto fields = static_cast<std::size_t>(32 / shape.bits);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    std::uint32_t word = 0;
    std::memcpy(&word, zeros.data.data() + i / fields * 4, 4);
    stored[i] = static_cast<std::uint16_t>(
        (word + ones) >> (i % fields * static_cast<std::size_t>(shape.bits)) & largest);
  }
}

/// An index of groups that is whole, and of other inputs than the codes: these are wrong.
/// @throws FormatError size
void check_inputs(const FindTensor& find, const std::string& layer, const PackedGroups& shape) {
  const TensorView index = find(layer + kGroupIndex);
  if (index.info == nullptr) return;
  const TensorInfo& info = *index.info;
  if (info.dtype != DType::int32 || info.shape.size() != 1 || info.shape[0] == 0 ||
      info.shape[0] == static_cast<std::uint64_t>(shape.inputs) ||
      info.shape[0] * static_cast<std::uint64_t>(shape.bits) % 32 != 0) {
    return;
  }
  const TensorInfo& weight = *find(layer + std::string(kPackedCodes)).info;
  refuse_tensor(FormatErrorKind::size, weight,
                ", codes of " + std::to_string(shape.bits) + " bits for " +
                    std::to_string(shape.inputs) + " inputs; " + in_quotes(info.name) + " is of " +
                    std::to_string(info.shape[0]));
}

/// Shapes and types, of codes that the index of groups agrees with.
PackedGroups gptq_shape(const FindTensor& find, const TensorInfo& weight,
                        const std::string& layer) {
  const PackedGroups shape = packed_groups_of(find, weight, layer, GroupPacking::gptq);
  check_inputs(find, layer, shape);
  return shape;
}

/// Whether layers may have bits and groups of their own (GPTQModel's "dynamic").
bool layers_differ(const nlohmann::json& section) {
  const auto it = section.find("dynamic");
  if (it == section.end() || !it->is_object()) return false;
  const auto items = it->items();
  return std::any_of(items.begin(), items.end(),
                     [](const auto& item) { return !item.key().starts_with("-:"); });
}

/// The group of each input.
/// @param group_size of config.json, 0 where it is not known
std::vector<std::int32_t> groups_of_inputs(const FindTensor& find, const std::string& layer,
                                           const PackedGroups& shape, std::int64_t group_size) {
  if (const TensorView index = find(layer + kGroupIndex); index.info != nullptr) {
    return read_group_index(index, shape);
  }
  const auto fits = [&](std::int64_t size) {
    return size > 0 && (shape.inputs + size - 1) / size == shape.groups;
  };
  std::int64_t size = shape.groups == 1 ? shape.inputs : group_size;
  if (!fits(size)) {
    const std::string said = group_size > 0 ? ", group_size is " + std::to_string(group_size) : "";
    if (shape.inputs % shape.groups != 0 || group_size > 0) {
      throw FormatError(FormatErrorKind::bad_scales,
                        "layer " + in_quotes(layer) + ": " + std::to_string(shape.groups) +
                            " groups of scales do not divide " + std::to_string(shape.inputs) +
                            " inputs" + said + ", and the tensor " +
                            in_quotes(layer + kGroupIndex) + " is missing");
    }
    size = shape.inputs / shape.groups;
  }
  return groups_of_neighbours(shape.inputs, size);
}

class Gptq final : public PackedGroupsFormat {
  static constexpr std::array kParts{LayerPart{kPackedZeros}, LayerPart{kGroupScales, true, true},
                                     LayerPart{kGroupIndex}};

 public:
  Gptq() : PackedGroupsFormat(GroupPacking::gptq) {}
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    return weight.dtype == DType::int32 &&
           group_packing_of(find, weight, layer_of(weight)) == GroupPacking::gptq;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    try {
      StoredLayer layer = packed_groups_layer(gptq_shape(find, weight, layer_of(weight)), weight);
      add_parts(layer, find, kParts);
      return layer;
    } catch (const FormatError&) {
      return std::nullopt;
    }
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const FindTensor find = find_in(checkpoint);
    const PackedGroups shape = gptq_shape(find, *find(layer.tensor).info, layer.name);
    const nlohmann::json section = group_config(checkpoint);
    const std::string version = version_of(section);
    if (!is_known_version(version)) {
      throw FormatError(
          FormatErrorKind::unsupported,
          "checkpoint_format " + in_quotes(version) + " of GPTQ is not read; gptq and gptq_v2 are");
    }
    GroupValues values = read_group_values(find, layer.name, shape);
    if (version != "gptq_v2") {
      add_one(find(layer.name + kPackedZeros), shape, by_gptqmodel(section), values.zeros);
    }
    auto groups = groups_of_inputs(find, layer.name, shape, group_size_of(section));
    return std::make_unique<PackedGroupRows>(shape, std::move(values), std::move(groups));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const std::string layer = layer_of(*weight.info);
    try {
      const PackedGroups shape = gptq_shape(find, *weight.info, layer);
      static_cast<void>(read_group_values(find, layer, shape));
      if (const TensorView index = find(layer + kGroupIndex); index.info != nullptr) {
        static_cast<void>(read_group_index(index, shape));
      }
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
  }

  bool verify_part(const FindTensor&, const TensorView& part, Findings& findings) const override {
    if (part.info->name.ends_with(kGroupScales)) {
      verify_group_scales(part, findings);
      return true;
    }
    if (!part.info->name.ends_with(kPackedZeros) || part.info->dtype != DType::int32) return false;
    const std::vector<std::uint32_t> words = values_of<std::uint32_t>(part);
    const auto full = std::count(words.begin(), words.end(), 0xFFFFFFFFu);
    if (full > 0) {
      findings.push_back({Severity::warning, "scale",
                          "tensor " + in_quotes(part.info->name) + " holds " +
                              std::to_string(full) +
                              " words of ones only: AutoGPTQ writes a zero point of 0 so, over the "
                              "others of the word, which are lost"});
    }
    return true;
  }

  [[nodiscard]] std::string_view quant_method() const override { return "gptq"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_group_config(section, quant_method(), layers, error);
    if (const std::string version = version_of(section); !is_known_version(version)) {
      error("checkpoint_format is " + in_quotes(version) + "; gptq and gptq_v2 are read");
    }
  }

  /// Bits and groups that no layer has, and an order of inputs that is nowhere.
  void check_tensors(const nlohmann::json& section, const FindTensor& find,
                     std::span<const TensorInfo* const> weights,
                     Findings& findings) const override {
    if (layers_differ(section)) return;
    const auto bits = section.find("bits");
    const std::int64_t size = group_size_of(section);
    std::string other_bits;
    std::string other_groups;
    bool bits_agree = bits == section.end() || !bits->is_number_integer();
    bool groups_agree = size == 0;
    const TensorInfo* unordered = nullptr;
    for (const TensorInfo* weight : weights) {
      const std::string layer = layer_of(*weight);
      try {
        const PackedGroups shape = gptq_shape(find, *weight, layer);
        const std::int64_t groups = size == -1  ? 1
                                    : size == 0 ? 0
                                                : (shape.inputs + size - 1) / size;
        bits_agree = bits_agree || *bits == shape.bits;
        groups_agree = groups_agree || shape.groups == groups;
        if (other_bits.empty()) {
          other_bits = "layer " + in_quotes(layer) + " has codes of " + std::to_string(shape.bits);
          other_groups = "layer " + in_quotes(layer) + " has " + std::to_string(shape.groups) +
                         " groups of " + std::to_string(shape.inputs) + " inputs";
        }
        if (shape.groups > 1 && find(layer + kGroupIndex).info == nullptr) unordered = weight;
      } catch (const FormatError&) {
        return;  // which is said already
      }
    }
    if (weights.empty()) return;
    if (!bits_agree) {
      findings.push_back(
          {Severity::error, "config", "bits is " + bits->dump() + ", but " + other_bits});
    }
    if (!groups_agree) {
      findings.push_back({Severity::error, "config",
                          "group_size is " + std::to_string(size) + ", but " + other_groups});
    }
    const auto order = section.find("desc_act");
    if (unordered != nullptr && order != section.end() && *order == true) {
      findings.push_back({Severity::warning, "config",
                          "desc_act is true, but layer " + in_quotes(layer_of(*unordered)) +
                              " has no g_idx: its groups are taken for neighbours"});
    }
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == group_format(describe(format).bits);
  }
  /// Whole words of zero points.
  [[nodiscard]] std::uint64_t rows_together(const NewLayer&) const override { return 32; }

  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    std::vector<TensorSpec> specs = PackedGroupsFormat::specs(layer);
    specs.push_back({layer.name + kGroupIndex, DType::int32, {layer.inputs}});
    return specs;
  }

  void write_fixed(const NewLayer& layer, const TensorSink& out) const override {
    std::vector<std::int32_t> groups = layer.group_of;
    if (groups.empty()) {
      groups = groups_of_neighbours(static_cast<std::int64_t>(layer.inputs), group_size_of(layer));
    }
    out(layer.name + kGroupIndex, 0, std::as_bytes(std::span(groups)));
  }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    nlohmann::ordered_json config;
    config["bits"] = describe(facts.format).bits;
    config["checkpoint_format"] = "gptq_v2";
    config["desc_act"] = facts.act_order;
    if (const auto kept = exceptions(facts.float_layers); !kept.empty()) config["dynamic"] = kept;
    config["group_size"] = facts.block;
    config["lm_head"] = false;
    config["meta"]["quantizer"] = "kvant:" KVANT_VERSION_STRING;
    config["pack_dtype"] = "int32";
    config["quant_method"] = "gptq";
    config["sym"] = !facts.zero_points || !describe(facts.format).zero_points;
    return config;
  }

 private:
  /// GPTQModel's way to say that modules stay as they are: expressions after "-:".
  static nlohmann::ordered_json exceptions(const std::vector<std::string>& layers) {
    nlohmann::ordered_json dynamic;
    for (const std::string& layer : layers) {
      if (layer == "lm_head") continue;  // has a word of its own
      std::string expression = "-:.*";
      for (const char c : layer) {
        if (c == '.') expression += '\\';
        expression += c;
      }
      dynamic[expression] = nlohmann::ordered_json::object();
    }
    return dynamic;
  }
};

}  // namespace

const StoredFormat& gptq() {
  static const Gptq form;
  return form;
}

}  // namespace kvant::io
