// bitsandbytes' 8-bit form: codes and an absmax for each output. See int8_checkpoint.hpp.

#include "kvant/io/int8_checkpoint.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "io/layers/bitsandbytes_config.hpp"
#include "io/layers/int8_layer.hpp"
#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/bitsandbytes.hpp"
#include "kvant/error.hpp"
#include "kvant/io/tensor.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/packed_weights.hpp"

namespace kvant::io {
namespace {

/// The codes of NAME.weight, whose scales are right.
class Int8Rows final : public RowDecoder {
 public:
  explicit Int8Rows(Int8Layer layer) : layer_(std::move(layer)) {}

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override {
    const auto inputs = static_cast<std::uint64_t>(layer_.codes.cols());
    return {static_cast<std::uint64_t>(first_row) * inputs,
            static_cast<std::uint64_t>(rows) * inputs};
  }

  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override {
    const std::int64_t inputs = layer_.codes.cols();
    bitsandbytes::vectorwise_dequant(
        {reinterpret_cast<const std::int8_t*>(bytes.data()) + block.first_col, block.rows,
         block.cols, static_cast<std::ptrdiff_t>(inputs)},
        std::span(layer_.absmax)
            .subspan(static_cast<std::size_t>(block.first_row),
                     static_cast<std::size_t>(block.rows)),
        {out, block.rows, block.cols});
    const ConstAnyMatrix& kept = layer_.kept_weights;
    const std::int64_t size = describe(kept.dtype).bits / 8;
    for (std::size_t k = 0; k < layer_.kept_columns.size(); ++k) {
      const std::int64_t column = layer_.kept_columns[k] - block.first_col;
      if (column < 0 || column >= block.cols) continue;
      for (std::int64_t r = 0; r < block.rows; ++r) {
        const auto* from =
            static_cast<const std::byte*>(kept.data) +
            ((block.first_row + r) * kept.stride + static_cast<std::int64_t>(k)) * size;
        widen(from, kept.dtype, 1, out + r * block.cols + column);
      }
    }
  }

  [[nodiscard]] std::vector<std::int64_t> kept_columns() const override {
    return layer_.kept_columns;
  }

 private:
  Int8Layer layer_;
};

/// The double whose shortest text is that of the float: 0.1f is written as 0.1.
double as_written(float value) {
  char text[64];
  for (int digits = 6; digits <= 9; ++digits) {
    std::snprintf(text, sizeof text, "%.*g", digits, static_cast<double>(value));
    if (std::strtof(text, nullptr) == value) break;
  }
  return std::strtod(text, nullptr);
}

std::string named(const TensorInfo& info) {
  return "tensor " + in_quotes(info.name);
}

std::string count_text(std::uint64_t count, const char* noun) {
  return std::to_string(count) + " " + noun + (count == 1 ? "" : "s");
}

class BitsandbytesInt8 final : public StoredFormat {
  static constexpr std::array kParts{
      LayerPart{int8_names::kScales, true}, LayerPart{int8_names::kFormat},
      LayerPart{int8_names::kKeptColumns}, LayerPart{int8_names::kKeptWeights}};

 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor&, const TensorInfo& weight) const override {
    return weight.dtype == DType::int8;
  }

  [[nodiscard]] std::optional<StoredLayer> recognise(const FindTensor& find,
                                                     const TensorInfo& weight,
                                                     const LinearRules&) const override {
    const TensorView scales = find(layer_of(weight) + int8_names::kScales);
    if (!is_weight_matrix(weight) || scales.info == nullptr ||
        scales.info->dtype != DType::float32 ||
        scales.info->shape != std::vector<std::uint64_t>{weight.shape[0]}) {
      return std::nullopt;
    }
    return matrix_layer(weight, WeightFormat::int8_row, find, kParts);
  }

  [[nodiscard]] std::unique_ptr<RowDecoder> open(const Checkpoint& checkpoint,
                                                 const StoredLayer& layer) const override {
    return std::make_unique<Int8Rows>(read_int8_layer(checkpoint, layer.name));
  }

  void verify_weight(const FindTensor& find, const TensorView& weight,
                     Findings& findings) const override {
    const TensorInfo& info = *weight.info;
    const auto add = [&](Severity severity, const char* kind, std::string text) {
      findings.push_back({severity, kind, std::move(text)});
    };
    const std::string name = layer_of(info);
    if (info.shape.size() != 2) {
      add(Severity::error, "codes",
          described(info) + "; int8 codes of a linear layer have two dimensions");
    }
    if (info.shape.size() == 2 && info.shape[1] > static_cast<std::uint64_t>(kMaxInnerDimension)) {
      add(Severity::warning, "codes",
          named(info) + " has " + std::to_string(info.shape[1]) + " inputs; kvant's layers take " +
              std::to_string(kMaxInnerDimension) + " at most");
    }
    const TensorView scales = find(name + int8_names::kScales);
    if (scales.info == nullptr) {
      add(Severity::error, "scale",
          named(info) + " is int8, and its scales " + in_quotes(name + int8_names::kScales) +
              " are missing");
    } else if (info.shape.size() == 2 &&
               (scales.info->shape.size() != 1 || scales.info->shape[0] != info.shape[0])) {
      add(Severity::error, "scale",
          described(*scales.info) + ", but " + in_quotes(info.name) + " has " +
              std::to_string(info.shape[0]) + " outputs, which need one scale each");
    }
    const auto lowest = std::count(weight.data.begin(), weight.data.end(), std::byte{0x80});
    if (lowest > 0) {
      add(Severity::warning, "codes",
          named(info) + " holds " + count_text(static_cast<std::uint64_t>(lowest), "code") +
              " of -128; the format uses -127 to 127");
    }
    if (info.shape.size() != 2) return;
    try {
      static_cast<void>(check_kept_columns(find, name, info.shape[0], info.shape[1]));
    } catch (const FormatError& error) {
      add(Severity::error, "outliers", error.what());
    }
  }

  bool verify_part(const FindTensor&, const TensorView& part, Findings& findings) const override {
    const TensorInfo& info = *part.info;
    const auto error = [&](const char* kind, std::string text) {
      findings.push_back({Severity::error, kind, std::move(text)});
    };
    if (info.name.ends_with(int8_names::kFormat)) {
      if (info.dtype != DType::uint8 || part.data.size() != 1) {
        error("weight_format", described(info) + "; one U8 is known");
      } else if (part.data[0] != std::byte{0}) {
        error("weight_format",
              named(info) + " is " + std::to_string(std::to_integer<unsigned>(part.data[0])) +
                  "; only 0 (row-major) is known, others were layouts of old graphics cards: save "
                  "the model again with bitsandbytes 0.45 or newer");
      }
      return false;
    }
    if (!info.name.ends_with(int8_names::kScales)) return false;
    if (info.dtype != DType::float32) {
      error("scale", described(info) + "; scales are F32");
    }
    const OddValues odd = count_odd(part);
    if (!odd.finite()) error("scale", named(info) + " holds " + odd.text() + " scales");
    if (odd.negative > 0) {
      error("scale", named(info) + " holds " + count_text(odd.negative, "negative scale"));
    }
    return true;
  }

  [[nodiscard]] std::string_view quant_method() const override { return "bitsandbytes"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    const ConfigErrors silent = [](const std::string&) {};
    const bool eight = loads_in(8, section, silent);
    const bool four = loads_in(4, section, silent);
    if (eight && four) error("load_in_8bit and load_in_4bit are both true");
    if (!eight && !four) error("neither load_in_8bit nor load_in_4bit is true");
    check_bitsandbytes_layers(8, section, layers, error);
    if (const auto it = section.find("llm_int8_threshold"); it != section.end()) {
      if (!it->is_number() || !(it->get<double>() >= 0) || !std::isfinite(it->get<double>())) {
        error("llm_int8_threshold is " + it->dump(-1, ' ', true).substr(0, 60) +
              ", not a number from 0 up");
      }
    }
    if (const auto it = section.find("llm_int8_skip_modules");
        it != section.end() && !it->is_null()) {
      const bool strings = it->is_array() &&
                           std::all_of(it->begin(), it->end(),
                                       [](const nlohmann::json& name) { return name.is_string(); });
      if (!strings) error("llm_int8_skip_modules is not a list of names");
    }
  }

  [[nodiscard]] bool writes(WeightFormat format) const override {
    return format == WeightFormat::int8_row;
  }
  [[nodiscard]] bool keeps_columns() const override { return true; }

  [[nodiscard]] std::vector<TensorSpec> specs(const NewLayer& layer) const override {
    std::vector<TensorSpec> specs = {
        {layer.name + std::string(kWeightSuffix), DType::int8, {layer.outputs, layer.inputs}},
        {layer.name + int8_names::kScales, DType::float32, {layer.outputs}},
        {layer.name + int8_names::kFormat, DType::uint8, {}}};
    if (const std::uint64_t kept = layer.kept_columns.size(); kept > 0) {
      specs.push_back({layer.name + int8_names::kKeptColumns, DType::int64, {kept}});
      specs.push_back(
          {layer.name + int8_names::kKeptWeights, DType::float16, {layer.outputs, kept}});
    }
    return specs;
  }

  void write_fixed(const NewLayer& layer, const TensorSink& out) const override {
    const std::byte row_by_row{0};
    out(layer.name + int8_names::kFormat, 0, {&row_by_row, 1});
    if (!layer.kept_columns.empty()) {
      out(layer.name + int8_names::kKeptColumns, 0, std::as_bytes(std::span(layer.kept_columns)));
    }
  }

  void write_rows(const KernelTable& kernels, const NewLayer& layer, std::int64_t first,
                  const ConstAnyMatrix& rows, std::span<float>,
                  const TensorSink& out) const override {
    const auto result = bitsandbytes::vectorwise_quant(rows);
    for (std::size_t i = 0; i < result.row_stats.size(); ++i) {
      if (std::isfinite(result.row_stats[i])) continue;
      throw Error(ErrorCode::not_finite,
                  "layer " + in_quotes(layer.name) + ": output " +
                      std::to_string(first + static_cast<std::int64_t>(i)) +
                      " has a weight that is NaN, infinite or beyond fp16's 65504; keep the layer "
                      "in float (--skip)");
    }
    const auto at = static_cast<std::uint64_t>(first);
    out(layer.name + std::string(kWeightSuffix), at * layer.inputs,
        std::as_bytes(std::span(result.codes)));
    out(layer.name + int8_names::kScales, at * sizeof(float),
        std::as_bytes(std::span(result.row_stats)));
    if (!layer.kept_columns.empty()) write_kept(kernels, layer, at, rows, out);
  }

  void round_trip(const KernelTable&, const NewLayer&, std::int64_t, MatrixView<const float> rows,
                  std::span<const float>, MatrixView<float> out) const override {
    const auto quantized = bitsandbytes::vectorwise_quant(rows);
    bitsandbytes::vectorwise_dequant({quantized.codes.data(), rows.rows(), rows.cols()},
                                     quantized.row_stats, out);
  }

  [[nodiscard]] nlohmann::ordered_json quantization_config(
      const QuantizationFacts& facts) const override {
    nlohmann::ordered_json config;
    config["_load_in_4bit"] = false;
    config["_load_in_8bit"] = true;
    config["bnb_4bit_compute_dtype"] = "float32";
    config["bnb_4bit_quant_storage"] = "uint8";
    config["bnb_4bit_quant_type"] = "fp4";
    config["bnb_4bit_use_double_quant"] = false;
    config["llm_int8_enable_fp32_cpu_offload"] = false;
    config["llm_int8_has_fp16_weight"] = false;
    config["llm_int8_skip_modules"] = facts.float_layers;
    config["llm_int8_threshold"] = as_written(facts.threshold);
    config["load_in_4bit"] = false;
    config["load_in_8bit"] = true;
    config["quant_method"] = "bitsandbytes";
    return config;
  }

 private:
  static void write_kept(const KernelTable& kernels, const NewLayer& layer, std::uint64_t first,
                         const ConstAnyMatrix& rows, const TensorSink& out) {
    const std::uint64_t kept = layer.kept_columns.size();
    const auto count = static_cast<std::uint64_t>(rows.rows) * kept;
    const auto size = static_cast<std::uint64_t>(describe(rows.dtype).bits / 8);
    std::vector<std::byte> gathered(static_cast<std::size_t>(count * size));
    std::byte* to = gathered.data();
    for (std::int64_t r = 0; r < rows.rows; ++r) {
      for (const std::int64_t column : layer.kept_columns) {
        const auto at = static_cast<std::uint64_t>(r * rows.stride + column) * size;
        std::memcpy(to, static_cast<const std::byte*>(rows.data) + at,
                    static_cast<std::size_t>(size));
        to += size;
      }
    }
    std::vector<float16> half(static_cast<std::size_t>(count));
    kernels.convert({gathered.data(), rows.dtype, half.data(), DType::float16,
                     static_cast<std::int64_t>(count)});
    out(layer.name + int8_names::kKeptWeights, first * kept * sizeof(float16),
        std::as_bytes(std::span(half)));
  }
};

const BitsandbytesInt8 kForm;

/// Whether a weight is of this form, and not of a more special one.
bool is_claimed(const FindTensor& find, const TensorInfo& weight) {
  return form_of(find, weight) == &kForm;
}

}  // namespace

bool is_int8_layer(const Checkpoint& checkpoint, std::string_view layer) {
  const TensorInfo* info = checkpoint.find(std::string(layer) + std::string(kWeightSuffix));
  return info != nullptr && is_claimed(find_in(checkpoint), *info);
}

std::vector<std::string> int8_layers(const Checkpoint& checkpoint) {
  const FindTensor find = find_in(checkpoint);
  std::vector<std::string> result;
  for (const TensorInfo* info : checkpoint.tensors()) {
    for (const std::string_view suffix : {int8_names::kScales, int8_names::kFormat}) {
      if (!info->name.ends_with(suffix)) continue;
      const std::string layer = layer_of(*info, suffix);
      if (!is_int8_layer(checkpoint, layer)) {
        refuse_int8(FormatErrorKind::missing_scales, layer,
                    "there is " + std::string(suffix.substr(1)) + " but no weight of I8");
      }
    }
    if (is_claimed(find, *info)) result.push_back(layer_of(*info));
  }
  std::sort(result.begin(), result.end());
  return result;
}

const StoredFormat& bitsandbytes_int8() {
  return kForm;
}

}  // namespace kvant::io
