// DeepSeek's form, which transformers calls "fp8": NAME.weight F8_E4M3 [N, K],
// NAME.weight_scale_inv [ceil(N / rows), ceil(K / cols)], a scale (not its inverse, whatever the
// name says) for each block of quantization_config.weight_block_size, 128 x 128. Value: element *
// scale.

#include <array>

#include "io/layers/packed_groups.hpp"
#include "io/layers/scaled_elements.hpp"
#include "io/layers/scaled_elements_writer.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr const char* kScaleInverse = ".weight_scale_inv";

/// weight_block_size; zeros where it is not said, and where it makes no sense.
SaidBlocks block_size_in(const nlohmann::json& section) {
  const auto it = section.is_object() ? section.find("weight_block_size") : section.end();
  if (!section.is_object() || it == section.end() || !it->is_array() || it->size() != 2) return {};
  const auto size = [](const nlohmann::json& value) {
    const bool sane = value.is_number_unsigned() && value.get<std::uint64_t>() > 0 &&
                      value.get<std::uint64_t>() <= static_cast<std::uint64_t>(kMaxDimension);
    return sane ? value.get<std::int64_t>() : std::int64_t{0};
  };
  return {size((*it)[0]), size((*it)[1])};
}

class Fp8Blocks final : public StoredFormat {
  static constexpr std::array kParts{LayerPart{kScaleInverse, true}};

 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    return weight.dtype == DType::float8_e4m3fn &&
           find(layer_of(weight) + kScaleInverse).info != nullptr;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    if (!is_weight_matrix(weight)) return std::nullopt;
    return matrix_layer(weight, WeightFormat::fp8_block, find, kParts);
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const TensorView scales = checkpoint.tensor(layer.name + kScaleInverse);
    if (layer.outputs == 0 || layer.inputs == 0) {
      throw FormatError(FormatErrorKind::size,
                        "tensor " + in_quotes(layer.tensor) + " is no matrix of a linear layer");
    }
    ScaleGrid grid = scale_grid_of(*scales.info, layer.outputs, layer.inputs,
                                   block_size_in(group_config(checkpoint)));
    read_scales(grid, scales);
    return std::make_unique<ScaledElements>(layer, std::move(grid));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const TensorView scales = find(layer_of(*weight.info) + kScaleInverse);
    try {
      if (!is_weight_matrix(*weight.info)) {
        refuse_tensor(FormatErrorKind::size, *weight.info,
                      "; elements of a linear layer have two dimensions");
      }
      check_scale_shape(*scales.info, static_cast<std::int64_t>(weight.info->shape[0]),
                        static_cast<std::int64_t>(weight.info->shape[1]));
      ScaleGrid grid;
      read_scales(grid, scales);
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
    const OddValues odd = count_odd(weight);
    if (odd.finite()) return;
    findings.push_back(
        {Severity::error, "codes",
         "tensor " + in_quotes(weight.info->name) + " holds elements that are " + odd.text()});
  }

  bool verify_part(const FindTensor&, const TensorView&, Findings&) const override {
    return true;  // its weight has said it
  }

  [[nodiscard]] std::string_view quant_method() const override { return "fp8"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>&,
                    const ConfigErrors& error) const override {
    if (const auto it = section.find("weight_block_size"); it != section.end() && !it->is_null()) {
      const SaidBlocks blocks = block_size_in(section);
      if (blocks.rows == 0 || blocks.cols == 0) {
        error("weight_block_size is " + it->dump(-1, ' ', true).substr(0, 60) +
              ", not two sizes above 0");
      }
    }
    if (const auto it = section.find("fmt"); it != section.end() && *it != "e4m3") {
      error("fmt is " + it->dump(-1, ' ', true).substr(0, 60) + "; e4m3 is read");
    }
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::fp8_block;
  }
  void check_new(const NewLayer& layer) const override { check_new_elements(layer); }
  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    return element_specs(layer, kScaleInverse, DType::float32);
  }
  [[nodiscard]] std::uint64_t rows_together(const NewLayer& layer) const override {
    return static_cast<std::uint64_t>(describe(layer.format).block_rows);
  }
  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float> /*collected*/,
                  const TensorSink& out) const override {
    write_element_rows(kernels, layer, kScaleInverse, DType::float32, first, rows, out);
  }
  void round_trip(const KernelTable& kernels, const NewLayer& layer, std::int64_t /*first*/,
                  MatrixView<const float> rows, std::span<const float> /*settled*/,
                  MatrixView<float> out) const override {
    round_trip_elements(kernels, layer, DType::float32, rows, out);
  }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    nlohmann::ordered_json config;
    config["activation_scheme"] = "dynamic";
    config["fmt"] = "e4m3";
    config["modules_to_not_convert"] = facts.float_layers;
    config["quant_method"] = "fp8";
    config["weight_block_size"] = {128, 128};
    return config;
  }
};

}  // namespace

const StoredFormat& fp8_blocks() {
  static const Fp8Blocks form;
  return form;
}

}  // namespace kvant::io
