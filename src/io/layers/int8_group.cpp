// int8-group: NAME.weight I8 [outputs, inputs], NAME.weight_scale F16 [outputs, groups]: a scale
// for 128 neighbours of an output, the last group of an output may be short.

#include <algorithm>
#include <array>
#include <cmath>

#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

constexpr const char* kScales = ".weight_scale";
constexpr std::array kParts{LayerPart{kScales, true}};
constexpr auto kGroup = static_cast<std::uint64_t>(describe(WeightFormat::int8_group).block);

std::uint64_t groups_of(std::uint64_t inputs) {
  return (inputs + kGroup - 1) / kGroup;
}

std::string described(const TensorInfo& info) {
  return "tensor " + in_quotes(info.name) + " is " + describe_tensor(info.dtype, info.shape);
}

/// What is wrong with the shapes of a weight and its scales; empty: nothing.
std::string wrong_scales(const TensorInfo& weight, const TensorInfo* scales) {
  if (weight.shape.size() != 2) {
    return described(weight) + "; codes of a linear layer have two dimensions";
  }
  if (scales == nullptr) return "the scales of tensor " + in_quotes(weight.name) + " are missing";
  const std::vector<std::uint64_t> shape = {weight.shape[0], groups_of(weight.shape[1])};
  if (scales->dtype == DType::float16 && scales->shape == shape) return {};
  return described(*scales) + ", not F16 [" + std::to_string(shape[0]) + ", " +
         std::to_string(shape[1]) + "]: one scale for " + std::to_string(kGroup) + " of " +
         std::to_string(weight.shape[1]) + " inputs";
}

class GroupedRows final : public RowDecoder {
 public:
  GroupedRows(const StoredLayer& layer, std::vector<float16> scales)
      : inputs_(layer.inputs), scales_(std::move(scales)) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override {
    return {static_cast<std::uint64_t>(first_row * inputs_),
            static_cast<std::uint64_t>(rows * inputs_)};
  }

  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override {
    const auto groups = static_cast<std::int64_t>(groups_of(static_cast<std::uint64_t>(inputs_)));
    const auto* codes = reinterpret_cast<const std::int8_t*>(bytes.data());
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for (std::int64_t c = 0; c < block.cols; ++c) {
        const std::int64_t column = block.first_col + c;
        const auto scale = static_cast<std::size_t>((block.first_row + r) * groups +
                                                    column / static_cast<std::int64_t>(kGroup));
        out[r * block.cols + c] =
            static_cast<float>(codes[r * inputs_ + column]) * static_cast<float>(scales_[scale]);
      }
    }
  }

 private:
  std::int64_t inputs_;
  std::vector<float16> scales_;
};

class Int8Group final : public StoredFormat {
 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    const std::string name = weight.name.substr(0, weight.name.size() - kWeightSuffix.size());
    return weight.dtype == DType::int8 && find(name + kScales).info != nullptr;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    StoredLayer layer = start_layer(weight, WeightFormat::int8_group);
    if (!is_weight_matrix(weight) ||
        !wrong_scales(weight, find(layer.name + kScales).info).empty()) {
      return std::nullopt;
    }
    layer.outputs = static_cast<std::int64_t>(weight.shape[0]);
    layer.inputs = static_cast<std::int64_t>(weight.shape[1]);
    add_parts(layer, find, kParts);
    return layer;
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const std::string name = layer.name + kScales;
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
    return std::make_unique<GroupedRows>(layer, std::move(scales));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const TensorInfo& info = *weight.info;
    const std::string name = info.name.substr(0, info.name.size() - kWeightSuffix.size());
    const std::string wrong = wrong_scales(info, find(name + kScales).info);
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
    if (value("group_size") != std::to_string(kGroup)) {
      error("group_size is " + value("group_size") + ", not " + std::to_string(kGroup));
    }
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::int8_group;
  }

  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    return {{layer.name + std::string(kWeightSuffix), DType::int8, {layer.outputs, layer.inputs}},
            {layer.name + kScales, DType::float16, {layer.outputs, groups_of(layer.inputs)}}};
  }

  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float>,
                  const TensorSink& out) const override {
    const PackedWeights packed = quantized(kernels, rows);
    const std::uint64_t groups = groups_of(layer.inputs);
    const auto count = static_cast<std::size_t>(rows.rows) * static_cast<std::size_t>(groups);
    std::vector<float16> scales;
    for (std::size_t i = 0; i < count; ++i) {
      if (!std::isfinite(packed.scales()[i])) {
        throw Error(ErrorCode::not_finite,
                    "layer " + in_quotes(layer.name) + ": output " +
                        std::to_string(first + static_cast<std::int64_t>(i / groups)) +
                        " has a weight that is NaN or infinite; keep the layer in float (--skip)");
      }
      scales.emplace_back(packed.scales()[i]);
    }
    std::vector<std::int8_t> codes(static_cast<std::size_t>(rows.rows * rows.cols));
    packed.unpack_rows(0, MatrixView<std::int8_t>(codes.data(), rows.rows, rows.cols));
    const auto at = static_cast<std::uint64_t>(first);
    out(layer.name + std::string(kWeightSuffix), at * layer.inputs,
        std::as_bytes(std::span(codes)));
    out(layer.name + kScales, at * groups * sizeof(float16), std::as_bytes(std::span(scales)));
  }

  void round_trip(const KernelTable& kernels, const NewLayer&, std::int64_t,
                  MatrixView<const float> rows, std::span<const float>,
                  MatrixView<float> out) const override {
    quantized(kernels, rows).dequantize(out);
  }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    return {{"format", to_string(WeightFormat::int8_group)},
            {"group_size", kGroup},
            {"ignore", facts.float_layers},
            {"quant_method", "kvant"}};
  }

 private:
  static PackedWeights quantized(const KernelTable& kernels, const ConstAnyMatrix& rows) {
    Context context({.executor = inline_executor(), .kernels = &kernels});
    return PackedWeights::quantize(context, rows, WeightFormat::int8_group);
  }
};

}  // namespace

const StoredFormat& int8_group() {
  static const Int8Group form;
  return form;
}

}  // namespace kvant::io
