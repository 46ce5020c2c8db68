// compressed-tensors' "int-quantized", "float-quantized" and "naive-quantized": NAME.weight I8 or
// F8_E4M3 [N, K], NAME.weight_scale for all, for each output, for groups of an output's inputs or
// for squares, NAME.weight_zero_point I8 beside it where quantization is affine (int8 alone).
// Value: (element - zero point) * scale.

#include <array>

#include "io/layers/compressed_inputs.hpp"
#include "io/layers/compressed_names.hpp"
#include "io/layers/compressed_tensors_config.hpp"
#include "io/layers/packed_groups.hpp"
#include "io/layers/scaled_elements.hpp"
#include "io/layers/scaled_elements_writer.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

/// Kept beside kvant's own groups of int8: F16 scales [N, ceil(K / 128)].
bool is_int8_group(const TensorInfo& weight, const TensorInfo& scales) {
  if (scales.dtype != DType::float16 || scales.shape.size() != 2 || weight.shape.size() != 2) {
    return scales.dtype == DType::float16 && scales.shape.size() > 1;
  }
  return weight.shape[1] <= 128 || scales.shape[0] != weight.shape[0] || scales.shape[1] != 1;
}

class CompressedElements final : public StoredFormat {
  static constexpr std::array kParts{LayerPart{kWeightScale, true}, LayerPart{kWeightZeroPoint},
                                     LayerPart{kInputScale, true, true},
                                     LayerPart{kInputZeroPoint, false, true}};

 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    const TensorView scales = find(layer_of(weight) + kWeightScale);
    if (scales.info == nullptr) return false;
    if (weight.dtype == DType::float8_e4m3fn) return true;
    // kvant's groups have no zero points.
    return weight.dtype == DType::int8 &&
           (find(layer_of(weight) + kWeightZeroPoint).info != nullptr ||
            !is_int8_group(weight, *scales.info));
  }

  [[nodiscard]] bool needs_scales(const TensorInfo& weight) const override {
    return weight.dtype == DType::float8_e4m3fn;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    if (!is_weight_matrix(weight)) return std::nullopt;
    WeightFormat format = WeightFormat::fp8_block;  // in blocks of a size that config.json says
    try {
      format = element_format(weight.dtype, grid_of(find, weight, {}),
                              static_cast<std::int64_t>(weight.shape[1]));
    } catch (const FormatError&) {
    }
    return matrix_layer(weight, format, find, kParts);
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const FindTensor find = find_in(checkpoint);
    const TensorInfo& weight = *find(layer.tensor).info;
    const CompressedWeights said = compressed_weights_of(group_config(checkpoint), layer.name);
    ScaleGrid grid = grid_of(find, weight, said.blocks);
    read_scales(grid, find(layer.name + kWeightScale));
    if (const TensorView zeros = find(layer.name + kWeightZeroPoint); zeros.info != nullptr) {
      if (weight.dtype != DType::int8) {
        throw FormatError(FormatErrorKind::bad_scales,
                          "tensor " + in_quotes(zeros.info->name) +
                              " beside elements of e4m3, which have no zero points");
      }
      read_zeros(grid, zeros);
    }
    return std::make_unique<ScaledElements>(layer, std::move(grid));
  }

  [[nodiscard]] std::optional<QuantParams> input_params(const Checkpoint& checkpoint,
                                                        const StoredLayer& layer) const override {
    return compressed_inputs(find_in(checkpoint), layer,
                             compressed_weights_of(group_config(checkpoint), layer.name).inputs);
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    try {
      const TensorView scales = find(layer_of(*weight.info) + kWeightScale);
      ScaleGrid grid;
      try {
        grid = grid_of(find, *weight.info, {});
      } catch (const FormatError&) {
        // Blocks of another size than 128 x 128: config.json says it, and open() looks there.
        if (weight.info->dtype == DType::int8 || !is_weight_matrix(*weight.info)) throw;
        check_scale_shape(*scales.info, static_cast<std::int64_t>(weight.info->shape[0]),
                          static_cast<std::int64_t>(weight.info->shape[1]));
      }
      read_scales(grid, scales);
      const TensorView zeros = find(layer_of(*weight.info) + kWeightZeroPoint);
      if (zeros.info != nullptr) read_zeros(grid, zeros);
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
    const OddValues odd = count_odd(weight);
    if (odd.finite()) return;
    findings.push_back(
        {Severity::error, "codes",
         "tensor " + in_quotes(weight.info->name) + " holds elements that are " + odd.text()});
  }

  bool verify_part(const FindTensor& find, const TensorView& part,
                   Findings& findings) const override {
    const std::string& name = part.info->name;
    if (name.ends_with(kWeightScale)) return true;  // its weight has said it
    if (!name.ends_with(kInputScale)) return false;
    const std::string layer = name.substr(0, name.size() - std::string_view(kInputScale).size());
    const TensorView weight = find(layer + std::string(kWeightSuffix));
    if (weight.info != nullptr && weight.info->dtype == DType::int8) return true;  // input_params
    try {
      check_scale_type(*part.info);
      ScaleGrid scales;
      read_scales(scales, part);
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
    return true;
  }

  [[nodiscard]] std::string_view quant_method() const override { return "compressed-tensors"; }
  /// AutoFP8 and vLLM call it "fp8" where elements are e4m3.
  [[nodiscard]] bool is_method(std::string_view method) const override {
    return method == quant_method() || method == "fp8";
  }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_compressed_config(section, layers, false, error);
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::fp8_row;
  }
  [[nodiscard]] bool writes_if_named(WeightFormat format) const override {
    return format == WeightFormat::int8_row;
  }
  [[nodiscard]] bool keeps_input_scales() const override { return true; }
  void check_new(const NewLayer& layer) const override { check_new_elements(layer); }
  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    std::vector<TensorSpec> specs = element_specs(layer, kWeightScale, layer.dtype);
    if (layer.input_scale) specs.push_back({layer.name + kInputScale, DType::float32, {1}});
    return specs;
  }
  void write_fixed(const NewLayer& layer, const TensorSink& out) const override {
    if (!layer.input_scale) return;
    out(layer.name + kInputScale, 0, std::as_bytes(std::span(&*layer.input_scale, 1)));
  }
  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float> /*collected*/,
                  const TensorSink& out) const override {
    write_element_rows(kernels, layer, kWeightScale, layer.dtype, first, rows, out);
  }
  void round_trip(const KernelTable& kernels, const NewLayer& layer, std::int64_t /*first*/,
                  MatrixView<const float> rows, std::span<const float> /*settled*/,
                  MatrixView<float> out) const override {
    round_trip_elements(kernels, layer, layer.dtype, rows, out);
  }

  /// llm-compressor's FP8_DYNAMIC and W8A8: activations are quantized by row when the model runs
  /// there, or all by the layer's input_scale.
  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    const bool integers = facts.format == WeightFormat::int8_row;
    const auto arguments = [&](const char* strategy, bool dynamic) {
      nlohmann::ordered_json json;
      json["dynamic"] = dynamic;
      json["num_bits"] = 8;
      json["strategy"] = strategy;
      json["symmetric"] = true;
      json["type"] = integers ? "int" : "float";
      return json;
    };
    return compressed_config(
        integers ? "int-quantized" : "float-quantized", arguments("channel", false),
        facts.static_inputs ? arguments("tensor", false) : arguments("token", true),
        facts.float_layers);
  }

 private:
  static ScaleGrid grid_of(const FindTensor& find, const TensorInfo& weight,
                           const SaidBlocks& said) {
    if (!is_weight_matrix(weight)) {
      refuse_tensor(FormatErrorKind::size, weight,
                    "; elements of a linear layer have two dimensions");
    }
    return scale_grid_of(*find(layer_of(weight) + kWeightScale).info,
                         static_cast<std::int64_t>(weight.shape[0]),
                         static_cast<std::int64_t>(weight.shape[1]), said);
  }
};

}  // namespace

const StoredFormat& compressed_elements() {
  static const CompressedElements form;
  return form;
}

}  // namespace kvant::io
