// compressed-tensors' "mxfp4-pack-quantized": NAME.weight_packed U8 [N, K / 2], two e2m1 elements a
// byte, the first in the low bits; NAME.weight_scale U8 [N, K / 32], the exponent of a power of
// two, biased by 127, for 32 neighbours of an output. Value: element * scale.

#include <algorithm>
#include <array>
#include <cmath>

#include "io/layers/compressed_names.hpp"
#include "io/layers/compressed_tensors_config.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/codebook.hpp"
#include "kvant/context.hpp"
#include "kvant/error.hpp"
#include "kvant/float8.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

constexpr const char* kGlobalScale = ".weight_global_scale";  // nvfp4's, which is not read
constexpr std::int64_t kBlock = describe(WeightFormat::mxfp4).block;

/// Inputs of a layer whose tensors fit. @throws FormatError size, bad_scales
std::int64_t inputs_of(const FindTensor& find, const TensorInfo& weight) {
  const auto bytes = static_cast<std::uint64_t>(kBlock / 2);
  if (!is_weight_matrix(weight) || weight.shape[1] % bytes != 0) {
    refuse_tensor(FormatErrorKind::size, weight,
                  ", not a matrix of e2m1 elements in blocks of " + std::to_string(kBlock));
  }
  const TensorInfo& scales = *find(layer_of(weight, kPackedWeight) + kWeightScale).info;
  const std::vector<std::uint64_t> shape = {weight.shape[0], weight.shape[1] / bytes};
  if (scales.dtype != DType::uint8 || scales.shape != shape) {
    refuse_tensor(FormatErrorKind::bad_scales, scales,
                  ", not U8 [" + std::to_string(shape[0]) + ", " + std::to_string(shape[1]) +
                      "]: an exponent for " + std::to_string(kBlock) + " inputs");
  }
  return static_cast<std::int64_t>(weight.shape[1]) * 2;
}

/// @throws FormatError bad_scales: the exponent that stands for NaN
std::vector<float> read_exponents(const TensorView& view) {
  std::vector<float> scales;
  scales.reserve(view.data.size());
  for (const std::byte exponent : view.data) {
    const auto bits = std::to_integer<std::uint8_t>(exponent);
    if (bits == float8_e8m0fnu::nan_code()) {
      throw FormatError(FormatErrorKind::bad_scales, "tensor " + in_quotes(view.info->name) +
                                                         " holds 255, NaN, at position " +
                                                         std::to_string(scales.size()));
    }
    scales.push_back(static_cast<float>(float8_e8m0fnu::from_bits(bits)));
  }
  return scales;
}

class PackedElements final : public RowDecoder {
 public:
  PackedElements(std::int64_t inputs, std::vector<float> scales)
      : inputs_(inputs), scales_(std::move(scales)) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override {
    return {static_cast<std::uint64_t>(first_row * inputs_ / 2),
            static_cast<std::uint64_t>(rows * inputs_ / 2)};
  }

  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override {
    for (std::int64_t r = 0; r < block.rows; ++r) {
      for (std::int64_t c = 0; c < block.cols; ++c) {
        const std::int64_t k = block.first_col + c;
        const auto scale =
            static_cast<std::size_t>((block.first_row + r) * (inputs_ / kBlock) + k / kBlock);
        out[r * block.cols + c] = kE2m1.value[code_at(bytes, r, k)] * scales_[scale];
      }
    }
  }

  [[nodiscard]] std::optional<LayerCodes> codes() const override {
    if (inputs_ > kMaxInnerDimension) return std::nullopt;
    return LayerCodes{.format = WeightFormat::mxfp4, .block = kBlock, .scales = scales_};
  }

  void unpack(std::int64_t, std::int64_t rows, std::span<const std::byte> bytes,
              std::uint8_t* out) const override {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t k = 0; k < inputs_; ++k) *out++ = code_at(bytes, r, k);
    }
  }

 private:
  [[nodiscard]] std::uint8_t code_at(std::span<const std::byte> bytes, std::int64_t row,
                                     std::int64_t k) const noexcept {
    const auto byte =
        std::to_integer<unsigned>(bytes[static_cast<std::size_t>((row * inputs_ + k) / 2)]);
    return static_cast<std::uint8_t>(k % 2 == 0 ? byte & 15u : byte >> 4);
  }

  std::int64_t inputs_;
  std::vector<float> scales_;
};

class CompressedMxfp4 final : public StoredFormat {
  static constexpr std::array kParts{LayerPart{kWeightScale}};

 public:
  [[nodiscard]] std::string_view codes() const override { return kPackedWeight; }
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    const std::string layer = layer_of(weight, kPackedWeight);
    return weight.dtype == DType::uint8 && find(layer + kWeightScale).info != nullptr &&
           find(layer + kGlobalScale).info == nullptr;
  }

  [[nodiscard]] bool needs_scales(const TensorInfo& weight) const override {
    return weight.dtype == DType::uint8;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    try {
      StoredLayer layer = start_layer(weight, WeightFormat::mxfp4, kPackedWeight);
      layer.inputs = inputs_of(find, weight);
      layer.outputs = static_cast<std::int64_t>(weight.shape[0]);
      add_parts(layer, find, kParts);
      return layer;
    } catch (const FormatError&) {
      return std::nullopt;
    }
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    const FindTensor find = find_in(checkpoint);
    const std::int64_t inputs = inputs_of(find, *find(layer.tensor).info);
    return std::make_unique<PackedElements>(inputs,
                                            read_exponents(find(layer.name + kWeightScale)));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    try {
      static_cast<void>(inputs_of(find, *weight.info));
      static_cast<void>(read_exponents(find(layer_of(*weight.info, kPackedWeight) + kWeightScale)));
    } catch (const FormatError& error) {
      findings.push_back({Severity::error, "scale", error.what()});
    }
  }

  [[nodiscard]] std::string_view quant_method() const override { return "compressed-tensors"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_compressed_config(section, layers, false, error);
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::mxfp4;
  }

  void check_new(const NewLayer& layer) const override {
    if (layer.block != 0 && layer.block != kBlock) {
      throw Error(ErrorCode::invalid_argument, "mxfp4 has blocks of " + std::to_string(kBlock) +
                                                   ", not of " + std::to_string(layer.block));
    }
    if (layer.outputs == 0 || layer.inputs == 0 ||
        layer.inputs % static_cast<std::uint64_t>(kBlock) != 0) {
      throw Error(ErrorCode::unsupported,
                  "layer " + in_quotes(layer.name) + " has " + std::to_string(layer.inputs) +
                      " inputs, mxfp4 needs a multiple of " + std::to_string(kBlock) +
                      "; keep it in float (--skip)");
    }
  }

  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    const auto block = static_cast<std::uint64_t>(kBlock);
    return {
        {layer.name + std::string(kPackedWeight), DType::uint8, {layer.outputs, layer.inputs / 2}},
        {layer.name + kWeightScale,
         DType::uint8,
         {layer.outputs, (layer.inputs + block - 1) / block}}};
  }

  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float> /*collected*/,
                  const TensorSink& out) const override {
    const PackedWeights weights = quantized(kernels, rows);
    std::vector<std::uint8_t> exponents;
    std::vector<float> scales;
    std::vector<std::uint8_t> no_zeros;
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      weights.unpack_scales(r, scales, no_zeros);
      for (const float scale : scales) {
        if (!std::isfinite(scale)) {
          throw Error(
              ErrorCode::not_finite,
              "layer " + in_quotes(layer.name) + ": output " + std::to_string(first + r) +
                  " has a weight that is NaN or infinite; keep the layer in float (--skip)");
        }
        exponents.push_back(float8_e8m0fnu(scale).bits);
      }
    }
    std::vector<std::uint8_t> codes(static_cast<std::size_t>(rows.rows * rows.cols));
    weights.unpack_rows(0, MatrixView<std::uint8_t>(codes.data(), rows.rows, rows.cols));
    std::vector<std::uint8_t> packed(codes.size() / 2);
    for (std::size_t i = 0; i < packed.size(); ++i) {
      packed[i] = static_cast<std::uint8_t>(codes[2 * i] | codes[2 * i + 1] << 4);
    }
    const auto at = static_cast<std::uint64_t>(first);
    out(layer.name + std::string(kPackedWeight), at * layer.inputs / 2,
        std::as_bytes(std::span(packed)));
    out(layer.name + kWeightScale, at * (layer.inputs / static_cast<std::uint64_t>(kBlock)),
        std::as_bytes(std::span(exponents)));
  }

  void round_trip(const KernelTable& kernels, const NewLayer&, std::int64_t /*first*/,
                  MatrixView<const float> rows, std::span<const float> /*settled*/,
                  MatrixView<float> out) const override {
    quantized(kernels, rows).dequantize(out);
  }

  /// llm-compressor's MXFP4A16: activations stay as they are.
  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    nlohmann::ordered_json weights;
    weights["dynamic"] = false;
    weights["group_size"] = kBlock;
    weights["num_bits"] = 4;
    weights["scale_dtype"] = "torch.uint8";
    weights["strategy"] = "group";
    weights["symmetric"] = true;
    weights["type"] = "float";
    return compressed_config("mxfp4-pack-quantized", std::move(weights), nullptr,
                             facts.float_layers);
  }

 private:
  static PackedWeights quantized(const KernelTable& kernels, const ConstAnyMatrix& rows) {
    Context context({.executor = inline_executor(), .kernels = &kernels});
    return PackedWeights::quantize(context, rows, WeightFormat::mxfp4);
  }
};

}  // namespace

const StoredFormat& compressed_mxfp4() {
  static const CompressedMxfp4 form;
  return form;
}

}  // namespace kvant::io
