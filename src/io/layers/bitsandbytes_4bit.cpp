// bitsandbytes' 4-bit form: two codes a byte, an absmax for each block of the flattened weight, and
// a JSON text that describes it in the U8 tensor NAME.weight.quant_state.bitsandbytes__nf4 (or
// __fp4). With double quantization the absmax are 8-bit codes themselves.

#include <array>
#include <cmath>
#include <utility>

#include "io/json/json_tree.hpp"
#include "io/layers/bitsandbytes_config.hpp"
#include "io/layers/start_layer.hpp"
#include "io/layers/stored_format.hpp"
#include "io/text/quoting.hpp"
#include "kvant/float16.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr const char* kAbsmax = ".weight.absmax";
constexpr const char* kTable = ".weight.quant_map";
constexpr const char* kNestedAbsmax = ".weight.nested_absmax";
constexpr const char* kNestedTable = ".weight.nested_quant_map";
constexpr std::array kStates{".weight.quant_state.bitsandbytes__nf4",
                             ".weight.quant_state.bitsandbytes__fp4"};
constexpr std::array kParts{LayerPart{kAbsmax, true},       LayerPart{kTable, true},
                            LayerPart{kNestedAbsmax, true}, LayerPart{kNestedTable, true},
                            LayerPart{kStates[0]},          LayerPart{kStates[1]}};
constexpr std::uint64_t kTableSize = 16;
constexpr std::uint64_t kNestedTableSize = 256;
constexpr std::int64_t kMaxDimension = std::int64_t{1} << 31;  // products of two fit 63 bits

struct QuantState {
  WeightFormat format = WeightFormat::nf4;
  std::int64_t blocksize = 64;   ///< consecutive elements of the flattened weight per absmax
  DType dtype = DType::float32;  ///< of the weight before it was quantized
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  bool nested = false;  ///< absmax are 8-bit codes themselves, in blocks of nested_blocksize
  std::int64_t nested_blocksize = 256;
  float nested_offset = 0;

  [[nodiscard]] std::uint64_t elements() const noexcept {
    return static_cast<std::uint64_t>(outputs) * static_cast<std::uint64_t>(inputs);
  }
  [[nodiscard]] std::uint64_t packed_bytes() const noexcept { return (elements() + 1) / 2; }
  [[nodiscard]] std::uint64_t blocks() const noexcept {
    const auto size = static_cast<std::uint64_t>(blocksize);
    return (elements() + size - 1) / size;
  }
  [[nodiscard]] std::uint64_t nested_blocks() const noexcept {
    const auto size = static_cast<std::uint64_t>(nested_blocksize);
    return (blocks() + size - 1) / size;
  }
};

class Fields {
 public:
  Fields(const nlohmann::json& json, const std::string& where) : json_(json), where_(where) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(FormatErrorKind::structure, where_ + ": " + what);
  }

  [[nodiscard]] bool has(const char* key) const { return json_.contains(key); }

  [[nodiscard]] std::string text(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end() || !it->is_string()) fail(std::string(key) + " is not a string");
    return it->get<std::string>();
  }

  [[nodiscard]] std::int64_t size(const char* key) const {
    return size(json_.value(key, none_), key);
  }

  [[nodiscard]] std::int64_t size(const nlohmann::json& value, const char* key) const {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() == 0 ||
        value.get<std::uint64_t>() > static_cast<std::uint64_t>(kMaxDimension)) {
      fail(std::string(key) + " is not a whole number from 1 to " + std::to_string(kMaxDimension));
    }
    return value.get<std::int64_t>();
  }

  [[nodiscard]] float finite(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end() || !it->is_number() || !std::isfinite(it->get<float>())) {
      fail(std::string(key) + " is not a finite number");
    }
    return it->get<float>();
  }

  [[nodiscard]] const nlohmann::json& array(const char* key, std::size_t count) const {
    const auto it = json_.find(key);
    if (it == json_.end() || !it->is_array() || it->size() != count) {
      fail(std::string(key) + " is not a list of " + std::to_string(count) + " numbers");
    }
    return *it;
  }

 private:
  const nlohmann::json& json_;
  const std::string& where_;
  nlohmann::json none_;
};

QuantState parse_state(std::span<const std::byte> text, const std::string& where) {
  const nlohmann::json json = parse_json_tree(text, where);
  const Fields fields(json, where);
  QuantState state;
  const std::string type = fields.text("quant_type");
  if (type != "nf4" && type != "fp4") fields.fail("quant_type is " + in_quotes(type));
  state.format = type == "nf4" ? WeightFormat::nf4 : WeightFormat::fp4;
  state.blocksize = fields.size("blocksize");
  const std::string dtype = fields.text("dtype");
  const auto known = dtype_from_name(dtype);
  if (!known || describe(*known).kind != DTypeKind::floating) {
    fields.fail("dtype is " + in_quotes(dtype));
  }
  state.dtype = *known;
  const nlohmann::json& shape = fields.array("shape", 2);
  state.outputs = fields.size(shape[0], "shape");
  state.inputs = fields.size(shape[1], "shape");
  state.nested = fields.has("nested_blocksize");
  if (state.nested) {
    state.nested_blocksize = fields.size("nested_blocksize");
    state.nested_offset = fields.finite("nested_offset");
  }
  return state;
}

std::string layer_of(const TensorInfo& weight) {
  return weight.name.substr(0, weight.name.size() - kWeightSuffix.size());
}

/// The description of a weight; nothing where there is none.
/// @throws FormatError structure, json, ...
std::optional<QuantState> find_state(const FindTensor& find, const std::string& layer) {
  for (const char* suffix : kStates) {
    const TensorView view = find(layer + suffix);
    if (view.info != nullptr) return parse_state(view.data, "tensor " + in_quotes(layer + suffix));
  }
  return std::nullopt;
}

class FourBitRows final : public RowDecoder {
 public:
  FourBitRows(const Checkpoint& checkpoint, const std::string& layer) {
    const FindTensor find = find_in(checkpoint);
    const std::string weight = layer + std::string(kWeightSuffix);
    const std::optional<QuantState> state = find_state(find, layer);
    if (!state) throw FormatError(FormatErrorKind::structure, weight + ": no quant_state");
    state_ = *state;
    if (const std::uint64_t bytes = checkpoint.tensor(weight).data.size();
        bytes < state_.packed_bytes()) {
      throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(weight) + " has " +
                                                   std::to_string(bytes) + " bytes, too few for " +
                                                   std::to_string(state_.elements()) + " codes");
    }
    table_ = floats(checkpoint, layer + kTable, kTableSize);
    if (!state_.nested) {
      scales_ = floats(checkpoint, layer + kAbsmax, state_.blocks());
      return;
    }
    const std::vector<std::uint8_t> codes = checkpoint.values<std::uint8_t>(layer + kAbsmax);
    if (codes.size() != state_.blocks()) {
      throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(layer + kAbsmax) + " has " +
                                                   std::to_string(codes.size()) + " elements for " +
                                                   std::to_string(state_.blocks()) + " blocks");
    }
    const auto block = static_cast<std::uint64_t>(state_.nested_blocksize);
    const std::vector<float> map = floats(checkpoint, layer + kNestedTable, kNestedTableSize);
    const std::vector<float> absmax =
        floats(checkpoint, layer + kNestedAbsmax, state_.nested_blocks());
    scales_.resize(codes.size());
    for (std::size_t i = 0; i < codes.size(); ++i) {
      scales_[i] = map[codes[i]] * absmax[i / block] + state_.nested_offset;
    }
  }

  [[nodiscard]] Range bytes_of(std::int64_t first_row, std::int64_t rows) const override {
    // Rows need not begin at a byte.
    const auto begin = static_cast<std::uint64_t>(first_row * state_.inputs) / 2;
    const auto end = (static_cast<std::uint64_t>((first_row + rows) * state_.inputs) + 1) / 2;
    return {begin, end - begin};
  }

  void decode(const WeightBlock& block, std::span<const std::byte> bytes,
              float* out) const override {
    const std::int64_t byte0 = block.first_row * state_.inputs / 2;
    for (std::int64_t r = 0; r < block.rows; ++r) {
      const std::int64_t begin = (block.first_row + r) * state_.inputs + block.first_col;
      float* to = out + r * block.cols;
      for (std::int64_t c = 0; c < block.cols; ++c) {
        const std::int64_t at = begin + c;  // in the flattened weight; the high nibble comes first
        const auto byte =
            std::to_integer<unsigned>(bytes[static_cast<std::size_t>(at / 2 - byte0)]);
        const unsigned code = at % 2 == 0 ? byte >> 4 : byte & 15u;
        to[c] = rounded(table_[code] * scales_[static_cast<std::size_t>(at / state_.blocksize)]);
      }
    }
  }

 private:
  /// Dequantized weights have the type that the weights had.
  [[nodiscard]] float rounded(float value) const {
    if (state_.dtype == DType::float16) return static_cast<float>(float16(value));
    if (state_.dtype == DType::bfloat16) return static_cast<float>(bfloat16(value));
    return value;
  }

  static std::vector<float> floats(const Checkpoint& checkpoint, const std::string& name,
                                   std::uint64_t count) {
    std::vector<float> values = checkpoint.values<float>(name);
    if (values.size() != count) {
      throw FormatError(FormatErrorKind::size, "tensor " + in_quotes(name) + " has " +
                                                   std::to_string(values.size()) + " elements, " +
                                                   std::to_string(count) + " are needed");
    }
    return values;
  }

  QuantState state_;
  std::vector<float> scales_;  ///< absmax of each block
  std::vector<float> table_;   ///< the value of each code
};

class Bitsandbytes4bit final : public StoredFormat {
 public:
  [[nodiscard]] std::span<const LayerPart> parts() const override { return kParts; }

  [[nodiscard]] bool claims(const FindTensor& find, const TensorInfo& weight) const override {
    const std::string layer = layer_of(weight);
    return find(layer + kStates[0]).info != nullptr || find(layer + kStates[1]).info != nullptr;
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
    if (weight.data.size() != state->packed_bytes()) {
      findings.push_back({Severity::error, "codes",
                          "tensor " + in_quotes(weight.info->name) + " is " +
                              describe_tensor(weight.info->dtype, weight.info->shape) + ", " +
                              std::to_string(weight.data.size()) +
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

  [[nodiscard]] std::string_view quant_method() const override { return "bitsandbytes"; }

  void check_config(const nlohmann::json& section, const std::set<std::string>& layers,
                    const ConfigErrors& error) const override {
    check_bitsandbytes_layers(4, section, layers, error);
  }
};

}  // namespace

const StoredFormat& bitsandbytes_4bit() {
  static const Bitsandbytes4bit form;
  return form;
}

}  // namespace kvant::io
