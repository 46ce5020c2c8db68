// int8-group: NAME.weight I8 [outputs, inputs], NAME.weight_scale F16 [outputs, groups]: a scale
// for 128 neighbours of an output, or another power of two from 32 on; the last group of an output
// may be short. The number of groups tells which. (One scale for a row of more than 128 is
// compressed-tensors' form.)

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "io/layers/compressed_names.hpp"
#include "io/layers/packed_groups.hpp"
#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

constexpr std::int64_t kGroup = describe(WeightFormat::int8_group).block;
constexpr std::int64_t kMostGroup = std::int64_t{1} << 20;

std::uint64_t groups_of(std::uint64_t inputs, std::int64_t group) {
  const auto size = static_cast<std::uint64_t>(group);
  return (inputs + size - 1) / size;
}

bool is_group(std::int64_t size) {
  return size >= 32 && size <= kMostGroup && (size & (size - 1)) == 0;
}

/// A row of at most the usual group may have one scale.
bool is_row_group(std::uint64_t inputs, std::int64_t size) {
  return inputs <= static_cast<std::uint64_t>(kGroup) || groups_of(inputs, size) > 1;
}

/// The size of a row's `groups` groups: no two fit, but where there is one group; 0: none does.
std::int64_t group_of(std::uint64_t inputs, std::uint64_t groups) {
  for (std::int64_t size = 32; size <= kMostGroup; size *= 2) {
    if (groups_of(inputs, size) == groups && is_row_group(inputs, size)) return size;
  }
  return 0;
}

/// What is wrong with the shapes of a weight and its scales; empty: nothing.
std::string wrong_scales(const TensorInfo& weight, const TensorInfo* scales) {
  if (weight.shape.size() != 2) {
    return described(weight) + "; codes of a linear layer have two dimensions";
  }
  if (scales == nullptr) return "the scales of tensor " + in_quotes(weight.name) + " are missing";
  const std::vector<std::uint64_t> shape = {weight.shape[0], groups_of(weight.shape[1], kGroup)};
  const bool fits = scales->shape.size() == 2 && scales->shape[0] == weight.shape[0] &&
                    (scales->shape == shape || group_of(weight.shape[1], scales->shape[1]) != 0);
  if (scales->dtype == DType::float16 && fits) return {};
  return described(*scales) + ", not F16 [" + std::to_string(shape[0]) + ", " +
         std::to_string(shape[1]) + "]: one scale for " + std::to_string(kGroup) + " of " +
         std::to_string(weight.shape[1]) + " inputs";
}

class GroupedRows final : public RowDecoder {
 public:
  GroupedRows(const StoredLayer& layer, std::int64_t group, std::vector<float16> scales)
      : inputs_(layer.inputs), group_(group), scales_(std::move(scales)) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override {
    return {static_cast<std::uint64_t>(first_row * inputs_),
            static_cast<std::uint64_t>(rows * inputs_)};
  }

  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override {
    const auto groups =
        static_cast<std::int64_t>(groups_of(static_cast<std::uint64_t>(inputs_), group_));
    const auto* codes = reinterpret_cast<const std::int8_t*>(bytes.data());
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for (std::int64_t c = 0; c < block.cols; ++c) {
        const std::int64_t column = block.first_col + c;
        const auto scale =
            static_cast<std::size_t>((block.first_row + r) * groups + column / group_);
        out[r * block.cols + c] =
            static_cast<float>(codes[r * inputs_ + column]) * static_cast<float>(scales_[scale]);
      }
    }
  }

  [[nodiscard]] std::optional<LayerCodes> codes() const override {
    if (inputs_ > kMaxInnerDimension) return std::nullopt;
    return LayerCodes{.format = WeightFormat::int8_group,
                      .block = group_,
                      .scales = {scales_.begin(), scales_.end()}};
  }

  void unpack(std::int64_t, std::int64_t rows, std::span<const std::byte> bytes,
              std::uint8_t* out) const override {
    std::memcpy(out, bytes.data(), static_cast<std::size_t>(rows * inputs_));
  }

 private:
  std::int64_t inputs_;
  std::int64_t group_;
  std::vector<float16> scales_;
};

class Int8Group final : public StoredFormat {
  static constexpr std::array kParts{LayerPart{kWeightScale, true}};

 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    return weight.dtype == DType::int8 && find(layer_of(weight) + kWeightScale).info != nullptr;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    if (!is_weight_matrix(weight) ||
        !wrong_scales(weight, find(layer_of(weight) + kWeightScale).info).empty()) {
      return std::nullopt;
    }
    return matrix_layer(weight, WeightFormat::int8_group, find, kParts);
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const std::string name = layer.name + kWeightScale;
    const TensorInfo* weight = checkpoint.find(layer.name + std::string(kWeightSuffix));
    const std::string wrong = wrong_scales(*weight, checkpoint.find(name));
    if (!wrong.empty()) throw FormatError(FormatErrorKind::bad_scales, wrong);
    std::vector<float16> scales = checkpoint.values<float16>(name);
    for (std::size_t i = 0; i < scales.size(); ++i) {
      const auto scale = static_cast<float>(scales[i]);
      if (scale >= 0 && std::isfinite(scale)) continue;
      throw FormatError(FormatErrorKind::bad_scales, "tensor " + in_quotes(name) + " holds " +
                                                         std::to_string(scale) + " at position " +
                                                         std::to_string(i) +
                                                         ", not a finite number from 0 up");
    }
    const std::uint64_t groups = checkpoint.find(name)->shape[1];
    const std::int64_t found = group_of(weight->shape[1], groups);
    const std::int64_t group = found != 0 ? found : kGroup;
    const nlohmann::json section = group_config(checkpoint);
    const std::int64_t said = group_size_of(section);
    if (said > 0 && section.value("quant_method", nlohmann::json()) == quant_method() &&
        groups_of(weight->shape[1], said) != groups) {
      throw FormatError(FormatErrorKind::bad_scales, "layer " + in_quotes(layer.name) +
                                                         " has groups of " + std::to_string(group) +
                                                         " inputs; config.json says " +
                                                         std::to_string(said));
    }
    return std::make_unique<GroupedRows>(layer, group, std::move(scales));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const TensorInfo& info = *weight.info;
    const std::string wrong = wrong_scales(info, find(layer_of(info) + kWeightScale).info);
    if (wrong.empty()) return;
    findings.push_back({Severity::error, info.shape.size() != 2 ? "codes" : "scale", wrong});
  }

  bool verify_part(const FindTensor&, const TensorView& part, Findings& findings) const override {
    const TensorInfo& info = *part.info;
    const OddValues odd = count_odd(part);
    if (!odd.finite() || odd.negative > 0) {
      findings.push_back({Severity::error, "scale",
                          "tensor " + in_quotes(info.name) + " holds scales that are " +
                              (odd.finite() ? "negative" : odd.text())});
    }
    return true;
  }

  [[nodiscard]] std::string_view quant_method() const override { return "kvant"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>&,
                    const ConfigErrors& error) const override {
    const auto value = [&](const char* key) {
      const auto it = section.find(key);
      return it == section.end() ? std::string("missing") : it->dump(-1, ' ', true).substr(0, 60);
    };
    if (value("format") != "\"int8-group\"") {
      error("format is " + value("format") + "; quant_method kvant has \"int8-group\"");
    }
    if (const auto ignore = section.find("ignore"); ignore != section.end() && !ignore->is_null()) {
      const bool names = ignore->is_array() &&
                         std::all_of(ignore->begin(), ignore->end(),
                                     [](const nlohmann::json& name) { return name.is_string(); });
      if (!names) error("ignore is " + value("ignore") + ", not a list of names");
    }
    const auto size = section.find("group_size");
    const bool known = size != section.end() && size->is_number_unsigned() &&
                       size->get<std::uint64_t>() <= static_cast<std::uint64_t>(kMostGroup) &&
                       is_group(size->get<std::int64_t>());
    if (!known) {
      error("group_size is " + value("group_size") +
            ", not 128 or another power of two from 32 to " + std::to_string(kMostGroup));
    }
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::int8_group;
  }

  void check_new(const NewLayer& layer) const override {
    const std::int64_t size = group_size(layer);
    if (size == -1) {
      throw Error(
          ErrorCode::invalid_argument,
          "int8-group: a group for each output (-1) is what the scheme int8 has; groups are "
          "powers of two from 32 on");
    }
    if (!is_group(size)) {
      throw Error(ErrorCode::invalid_argument,
                  "int8-group: groups of " + std::to_string(size) +
                      " inputs; powers of two from 32 on are possible");
    }
    if (!is_row_group(layer.inputs, size)) {
      throw Error(ErrorCode::unsupported,
                  "layer " + in_quotes(layer.name) + " has " + std::to_string(layer.inputs) +
                      " inputs, which would be one group of " + std::to_string(size) +
                      "; one scale an output is what int8 has");
    }
  }

  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    return {{layer.name + std::string(kWeightSuffix), DType::int8, {layer.outputs, layer.inputs}},
            {layer.name + kWeightScale,
             DType::float16,
             {layer.outputs, groups_of(layer.inputs, group_size(layer))}}};
  }

  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float>,
                  const TensorSink& out) const override {
    const PackedWeights packed = quantized(kernels, layer, rows);
    const std::uint64_t groups = groups_of(layer.inputs, group_size(layer));
    std::vector<float16> scales;
    std::vector<float> of_row;
    std::vector<std::uint8_t> none;
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      packed.unpack_scales(r, of_row, none);
      if (!std::all_of(of_row.begin(), of_row.end(), [](float s) { return std::isfinite(s); })) {
        throw Error(ErrorCode::not_finite,
                    "layer " + in_quotes(layer.name) + ": output " + std::to_string(first + r) +
                        " has a weight that is NaN or infinite; keep the layer in float (--skip)");
      }
      for (const float scale : of_row) scales.emplace_back(scale);
    }
    std::vector<std::int8_t> codes(static_cast<std::size_t>(rows.rows * rows.cols));
    packed.unpack_rows(0, MatrixView<std::int8_t>(codes.data(), rows.rows, rows.cols));
    const auto at = static_cast<std::uint64_t>(first);
    out(layer.name + std::string(kWeightSuffix), at * layer.inputs,
        std::as_bytes(std::span(codes)));
    out(layer.name + kWeightScale, at * groups * sizeof(float16), std::as_bytes(std::span(scales)));
  }

  void round_trip(const KernelTable& kernels, const NewLayer& layer, std::int64_t,
                  MatrixView<const float> rows, std::span<const float>,
                  MatrixView<float> out) const override {
    quantized(kernels, layer, rows).dequantize(out);
  }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    return {{"format", to_string(WeightFormat::int8_group)},
            {"group_size", facts.block},
            {"ignore", facts.float_layers},
            {"quant_method", "kvant"}};
  }

 private:
  static std::int64_t group_size(const NewLayer& layer) noexcept {
    return layer.block != 0 ? layer.block : kGroup;
  }

  static PackedWeights quantized(const KernelTable& kernels, const NewLayer& layer,
                                 const ConstAnyMatrix& rows) {
    Context context({.executor = inline_executor(), .kernels = &kernels});
    return PackedWeights::quantize(context, rows, WeightFormat::int8_group,
                                   {.block = group_size(layer)});
  }
};

}  // namespace

const StoredFormat& int8_group() {
  static const Int8Group form;
  return form;
}

}  // namespace kvant::io
