// bitsandbytes' 4-bit form: two codes a byte, an absmax for each block of the flattened weight, and
// a JSON text that describes it in the U8 tensor NAME.weight.quant_state.bitsandbytes__nf4 (or
// __fp4). With double quantization the absmax are 8-bit codes themselves.

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "io/layers/bitsandbytes_config.hpp"
#include "io/layers/four_bit_rows.hpp"
#include "io/layers/quant_state.hpp"
#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/error.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr std::int64_t kNestedBlock = 256;

class Bitsandbytes4bit final : public StoredFormat {
  static constexpr std::array kParts{LayerPart{kAbsmax, true},       LayerPart{kTable, true},
                                     LayerPart{kNestedAbsmax, true}, LayerPart{kNestedTable, true},
                                     LayerPart{kStates[0]},          LayerPart{kStates[1]}};

 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    const std::string layer = layer_of(weight);
    const auto has = [&](const char* part) { return find(layer + part).info != nullptr; };
    // Without a description it is of this form all the same, and wrong.
    return has(kStates[0]) || has(kStates[1]) || (has(kAbsmax) && has(kTable));
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    const std::optional<QuantState> state = find_state(find, layer_of(weight));
    if (!state) return std::nullopt;
    StoredLayer layer = start_layer(weight, state->format);
    layer.outputs = state->outputs;
    layer.inputs = state->inputs;
    add_parts(layer, find, kParts);
    return layer;
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    return std::make_unique<FourBitRows>(checkpoint, layer.name);
  }

  /// The bytes of codes are called elements of whatever bnb_4bit_quant_storage says.
  [[nodiscard]] bool holds_numbers() const override { return false; }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const std::string layer = layer_of(*weight.info);
    std::optional<QuantState> state;
    try {
      state = find_state(find, layer);
    } catch (const FormatError& failure) {
      findings.push_back({Severity::error, "quant_state", failure.what()});
      return;
    }
    if (!state) {
      findings.push_back({Severity::error, "quant_state", missing_state(*weight.info)});
      return;
    }
    if (const bool nf4 = find(layer + kStates[0]).info != nullptr;
        nf4 != (state->format == WeightFormat::nf4)) {
      findings.push_back({Severity::error, "quant_state",
                          "tensor " + in_quotes(layer + kStates[nf4 ? 0 : 1]) +
                              " is called so, but its quant_type is " +
                              std::string(to_string(state->format))});
    }
    if (weight.data.size() != state->packed_bytes()) {
      findings.push_back({Severity::error, "codes",
                          described(*weight.info) + ", " + std::to_string(weight.data.size()) +
                              " bytes; its quant_state says [" + std::to_string(state->outputs) +
                              ", " + std::to_string(state->inputs) + "], " +
                              std::to_string(state->packed_bytes()) + " bytes"});
    }
    const auto require = [&](const char* suffix, DType dtype, std::uint64_t count) {
      const TensorView view = find(layer + suffix);
      const auto size = static_cast<std::uint64_t>(describe(dtype).bits / 8);
      if (view.info != nullptr && view.info->dtype == dtype && view.data.size() / size == count) {
        return;
      }
      const std::string wanted = std::string(describe(dtype).safetensors) + " of " +
                                 std::to_string(count) + (count == 1 ? " element" : " elements") +
                                 " is needed";
      findings.push_back({Severity::error, "scale",
                          "tensor " + in_quotes(layer + suffix) +
                              (view.info == nullptr
                                   ? " is missing: " + wanted
                                   : " is " + describe_tensor(view.info->dtype, view.info->shape) +
                                         "; " + wanted)});
    };
    require(kTable, DType::float32, kTableSize);
    if (state->nested) {
      require(kAbsmax, DType::uint8, state->blocks());
      require(kNestedAbsmax, DType::float32, state->nested_blocks());
      require(kNestedTable, DType::float32, kNestedTableSize);
    } else {
      require(kAbsmax, DType::float32, state->blocks());
    }
  }

  bool verify_part(const FindTensor&, const TensorView& part, Findings& findings) const override {
    const std::string& name = part.info->name;
    if (name.ends_with(kStates[0]) || name.ends_with(kStates[1])) return true;  // read already
    if (!name.ends_with(kAbsmax) && !name.ends_with(kNestedAbsmax)) return false;
    if (const auto negative = count_odd(part).negative; negative > 0) {
      findings.push_back({Severity::error, "scale",
                          "tensor " + in_quotes(name) + " holds " + std::to_string(negative) +
                              (negative == 1 ? " value" : " values") +
                              " below 0, which no absmax is"});
    }
    return false;
  }

  [[nodiscard]] std::string_view quant_method() const override { return "bitsandbytes"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_bitsandbytes_layers(4, section, layers, error);
  }

  /// A type, or double quantization, that no layer has. (Loading goes by each layer's own
  /// description; some may differ.)
  void check_tensors(const nlohmann::json& section, const FindTensor& find,
                     std::span<const TensorInfo* const> weights,
                     Findings& findings) const override {
    const auto type = section.find("bnb_4bit_quant_type");
    const auto nested = section.find("bnb_4bit_use_double_quant");
    bool types_differ = type != section.end() && type->is_string() && !weights.empty();
    bool nested_differs = nested != section.end() && nested->is_boolean() && !weights.empty();
    for (const TensorInfo* weight : weights) {
      try {
        const auto state = find_state(find, layer_of(*weight));
        if (!state) return;
        types_differ = types_differ && type->get<std::string>() != to_string(state->format);
        nested_differs = nested_differs && nested->get<bool>() != state->nested;
      } catch (const FormatError&) {
        return;  // which is said already
      }
    }
    if (types_differ) {
      findings.push_back(
          {Severity::warning, "config",
           "bnb_4bit_quant_type is " + in_quotes(type->get<std::string>().substr(0, 60)) +
               ", which no layer's quant_state says (" + in_quotes(layer_of(*weights[0])) + ")"});
    }
    if (nested_differs) {
      findings.push_back(
          {Severity::warning, "config",
           std::string("bnb_4bit_use_double_quant is ") +
               (nested->get<bool>() ? "true, but no layer has" : "false, but all layers have") +
               " absmax that are codes themselves (" + in_quotes(layer_of(*weights[0])) + ")"});
    }
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::nf4 || format == WeightFormat::fp4;
  }

  void check_new(const NewLayer& layer) const override {
    const std::int64_t block = block_of(layer);
    if (block < 32 || block > 4096 || (block & (block - 1)) != 0) {
      throw Error(ErrorCode::invalid_argument,
                  "blocks of " + std::to_string(block) +
                      " weights: bitsandbytes has blocks of 32, 64, 128, 256, 512, 1024, 2048 and "
                      "4096");
    }
    if (layer.outputs == 0 || layer.inputs == 0) {
      throw Error(ErrorCode::unsupported,
                  "layer " + in_quotes(layer.name) + " has no weights; keep it in float (--skip)");
    }
  }

  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    const QuantState state = state_of(layer);
    std::vector<TensorSpec> specs = {
        {layer.name + std::string(kWeightSuffix), DType::uint8, {state.packed_bytes(), 1}},
        {layer.name + kAbsmax, state.nested ? DType::uint8 : DType::float32, {state.blocks()}},
        {layer.name + kTable, DType::float32, {kTableSize}}};
    if (state.nested) {
      specs.push_back({layer.name + kNestedAbsmax, DType::float32, {state.nested_blocks()}});
      specs.push_back({layer.name + kNestedTable, DType::float32, {kNestedTableSize}});
    }
    specs.push_back({layer.name + state_suffix(layer), DType::uint8, {longest_state_text(state)}});
    return specs;
  }

  /// Blocks may cross rows: pieces begin where a block does, which is where a byte does too.
  [[nodiscard]] std::uint64_t rows_together(const NewLayer& layer) const override {
    const auto block = static_cast<std::uint64_t>(block_of(layer));
    return block / std::gcd(block, std::max<std::uint64_t>(1, layer.inputs));
  }

  /// The absmax of all blocks: their mean is needed before the first can be quantized.
  [[nodiscard]] std::uint64_t collects(const NewLayer& layer) const override {
    return layer.nested ? state_of(layer).blocks() : 0;
  }

  void write_fixed(const NewLayer& layer, const TensorSink& out) const override {
    const std::vector<float> table = codebook_values(layer.format);
    out(layer.name + kTable, 0, std::as_bytes(std::span(table)));
    if (!layer.nested) write_state(layer, 0.0f, out);
  }

  void write_rows(const KernelTable&, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float> collected,
                  const TensorSink& out) const override {
    const auto quantized = bitsandbytes::quantize_4bit(rows, layer.format, block_of(layer));
    const std::uint64_t element = static_cast<std::uint64_t>(first) * layer.inputs;
    const std::uint64_t block = element / static_cast<std::uint64_t>(block_of(layer));
    for (std::size_t i = 0; i < quantized.absmax.size(); ++i) {
      if (std::isfinite(quantized.absmax[i])) continue;
      const std::uint64_t at = (block + i) * static_cast<std::uint64_t>(block_of(layer));
      throw Error(ErrorCode::not_finite,
                  "layer " + in_quotes(layer.name) + ": output " +
                      std::to_string(at / layer.inputs) +
                      " or one after it has a weight that is NaN or infinite; keep the layer in "
                      "float (--skip)");
    }
    out(layer.name + std::string(kWeightSuffix), element / 2,
        std::as_bytes(std::span(quantized.codes)));
    if (layer.nested) {
      std::copy(quantized.absmax.begin(), quantized.absmax.end(),
                collected.begin() + static_cast<std::ptrdiff_t>(block));
    } else {
      out(layer.name + kAbsmax, block * sizeof(float), std::as_bytes(std::span(quantized.absmax)));
    }
  }

  void write_end(const NewLayer& layer, std::span<const float> collected,
                 const TensorSink& out) const override {
    if (!layer.nested) return;
    const bitsandbytes::NestedAbsmax nested = bitsandbytes::nest_absmax(collected);
    out(layer.name + kAbsmax, 0, std::as_bytes(std::span(nested.codes)));
    out(layer.name + kNestedAbsmax, 0, std::as_bytes(std::span(nested.absmax)));
    out(layer.name + kNestedTable, 0, std::as_bytes(bitsandbytes::dynamic_map()));
    write_state(layer, nested.offset, out);
  }

  void settle(const NewLayer&, std::span<float> collected) const override {
    const auto values = bitsandbytes::unnest_absmax(bitsandbytes::nest_absmax(collected));
    std::copy(values.begin(), values.end(), collected.begin());
  }

  void round_trip(const KernelTable&, const NewLayer& layer, std::int64_t first,
                  MatrixView<const float> rows, std::span<const float> settled,
                  MatrixView<float> out) const override {
    auto quantized = bitsandbytes::quantize_4bit(rows, layer.format, block_of(layer));
    if (layer.nested) {
      const auto block = static_cast<std::size_t>(first * rows.cols() / block_of(layer));
      const auto own = settled.subspan(block, quantized.absmax.size());
      quantized.absmax.assign(own.begin(), own.end());
    }
    QuantState state = state_of(layer);
    state.outputs = rows.rows();
    FourBitRows(state, std::move(quantized.absmax))
        .decode({0, rows.rows(), 0, rows.cols()}, std::as_bytes(std::span(quantized.codes)),
                out.data());
  }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    nlohmann::ordered_json config;
    config["_load_in_4bit"] = true;
    config["_load_in_8bit"] = false;
    config["bnb_4bit_compute_dtype"] = kvant::to_string(facts.dtype);
    config["bnb_4bit_quant_storage"] = "uint8";
    config["bnb_4bit_quant_type"] = to_string(facts.format);
    config["bnb_4bit_use_double_quant"] = facts.nested;
    config["llm_int8_enable_fp32_cpu_offload"] = false;
    config["llm_int8_has_fp16_weight"] = false;
    config["llm_int8_skip_modules"] = facts.float_layers;
    config["llm_int8_threshold"] = 6.0;
    config["load_in_4bit"] = true;
    config["load_in_8bit"] = false;
    config["quant_method"] = "bitsandbytes";
    return config;
  }

 private:
  static std::int64_t block_of(const NewLayer& layer) {
    return layer.block != 0 ? layer.block : describe(layer.format).block;
  }

  static const char* state_suffix(const NewLayer& layer) {
    return kStates[layer.format == WeightFormat::nf4 ? 0 : 1];
  }

  static QuantState state_of(const NewLayer& layer) {
    return {.format = layer.format,
            .blocksize = block_of(layer),
            .dtype = layer.dtype,
            .outputs = static_cast<std::int64_t>(layer.outputs),
            .inputs = static_cast<std::int64_t>(layer.inputs),
            .nested = layer.nested,
            .nested_blocksize = kNestedBlock};
  }

  /// The sizes of tensors are known before their contents: spaces stand for the digits that the
  /// offset does not have.
  static void write_state(const NewLayer& layer, float offset, const TensorSink& out) {
    QuantState state = state_of(layer);
    state.nested_offset = offset;
    std::string text = state_text(state);
    text.resize(longest_state_text(state), ' ');
    out(layer.name + state_suffix(layer), 0, std::as_bytes(std::span(text)));
  }
};

}  // namespace

const StoredFormat& bitsandbytes_4bit() {
  static const Bitsandbytes4bit form;
  return form;
}

}  // namespace kvant::io
