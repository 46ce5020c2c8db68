#include "kvant/io/quantized_file.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <span>
#include <tuple>
#include <utility>

#include "io/json/json_tree.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/safetensors.hpp"

namespace kvant::io {
namespace {

constexpr const char* kOnly = "quantized";  ///< the name in a file of its own

// The words of the file. Their order is that of the enumerators.
constexpr std::array kRules = {"absmax",        "affine",       "torch_symmetric", "torch_affine",
                               "quanto_absmax", "quanto_shift", "quanto_zeropoint"};
constexpr std::array kOrders = {"kvant", "divide", "torch_channel", "torch_tensor"};

template <class Enum, std::size_t N>
const char* word_of(const std::array<const char*, N>& words, Enum value) {
  return words.at(static_cast<std::size_t>(value));
}

std::string key_of(const std::string& name) {
  return name + ".kvant";
}

nlohmann::json describe_params(const QuantParams& params) {
  const QuantScheme& scheme = params.scheme;
  return {{"scheme", scheme.name},
          {"dtype", to_string(scheme.dtype)},
          {"lowest", scheme.lowest},
          {"highest", scheme.highest},
          {"rule", word_of(kRules, scheme.rule)},
          {"tensor_order", word_of(kOrders, scheme.tensor_order)},
          {"block_order", word_of(kOrders, scheme.block_order)},
          {"block", {params.block.rows, params.block.cols}},
          {"arithmetic", to_string(params.arithmetic)}};
}

/// Reads the description of parameters; whatever is wrong in it is one error.
class Description {
 public:
  Description(const TensorFile& file, const std::string& name) : where_(file.name()) {
    const auto it = file.metadata().find(key_of(name));
    if (it == file.metadata().end()) {
      throw Error(ErrorCode::invalid_argument,
                  where_ + ": holds no parameters with the name " + name);
    }
    where_ += ": metadata " + key_of(name);
    json_ = parse_json_tree(std::as_bytes(std::span(it->second)), where_);
  }

  [[nodiscard]] std::int64_t number(const char* key) const { return number(at(key), key); }
  [[nodiscard]] std::string text(const char* key) const {
    if (!at(key).is_string()) fail(key);
    return at(key).get<std::string>();
  }
  [[nodiscard]] DType dtype(const char* key) const {
    const auto result = dtype_from_name(text(key));
    if (!result) fail(key);
    return *result;
  }
  template <class Enum, std::size_t N>
  [[nodiscard]] Enum word(const char* key, const std::array<const char*, N>& words) const {
    const std::string wanted = text(key);
    const auto found = std::find(words.begin(), words.end(), wanted);
    if (found == words.end()) fail(key);
    return static_cast<Enum>(found - words.begin());
  }
  /// Two numbers.
  [[nodiscard]] std::pair<std::int64_t, std::int64_t> pair(const char* key) const {
    const nlohmann::json& value = at(key);
    if (!value.is_array() || value.size() != 2) fail(key);
    return {number(value[0], key), number(value[1], key)};
  }

 private:
  [[nodiscard]] const nlohmann::json& at(const char* key) const {
    const auto it = json_.find(key);
    if (it == json_.end()) fail(key);
    return *it;
  }
  [[nodiscard]] std::int64_t number(const nlohmann::json& value, const char* key) const {
    if (!value.is_number_integer() ||
        (value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX)) {
      fail(key);
    }
    return value.get<std::int64_t>();
  }
  [[noreturn]] void fail(const char* key) const {
    const auto it = json_.find(key);
    throw FormatError(
        FormatErrorKind::structure,
        where_ + ": " + key + " is " +
            (it == json_.end() ? std::string("missing") : it->dump(-1, ' ', true).substr(0, 60)));
  }

  std::string where_;
  nlohmann::json json_;
};

std::int32_t to_code(std::int64_t value) {
  return static_cast<std::int32_t>(std::clamp<std::int64_t>(value, INT32_MIN, INT32_MAX));
}

QuantParams read_params(const TensorFile& file, const Description& description,
                        const std::string& name) {
  QuantParams params;
  QuantScheme& scheme = params.scheme;
  const std::string scheme_name = description.text("scheme");
  const auto* known =
      std::find_if(kQuantSchemes.begin(), kQuantSchemes.end(),
                   [&](const QuantScheme& each) { return each.name == scheme_name; });
  scheme.name = known == kQuantSchemes.end() ? std::string_view("custom") : known->name;
  scheme.dtype = description.dtype("dtype");
  scheme.lowest = to_code(description.number("lowest"));
  scheme.highest = to_code(description.number("highest"));
  scheme.rule = description.word<ScaleRule>("rule", kRules);
  scheme.tensor_order = description.word<RoundOrder>("tensor_order", kOrders);
  scheme.block_order = description.word<RoundOrder>("block_order", kOrders);
  std::tie(params.block.rows, params.block.cols) = description.pair("block");
  params.arithmetic = description.dtype("arithmetic");
  const auto values = [&]<class T>(const char* suffix, std::vector<T>& to) {
    if (file.contains(name + suffix)) to = file.values<T>(name + suffix);
  };
  params.scale = file.values<float>(name + ".scale");
  values(".inv_scale", params.inv_scale);
  values(".zero_point", params.zero_point);
  values(".shift", params.shift);
  return params;
}

/// The lengths must agree, whatever the matrix.
void check_lengths(const TensorFile& file, const QuantParams& params) {
  for (const std::size_t size :
       {params.inv_scale.size(), params.zero_point.size(), params.shift.size()}) {
    if (size == 0 || size == params.scale.size()) continue;
    throw FormatError(FormatErrorKind::structure,
                      file.name() + ": " + std::to_string(size) + " values beside " +
                          std::to_string(params.scale.size()) + " scales");
  }
}

void add_values(SafeTensorsWriter& writer, const std::string& name, const QuantParams& params) {
  writer.add(name + ".scale", params.scale);
  if (!params.inv_scale.empty()) writer.add(name + ".inv_scale", params.inv_scale);
  if (!params.zero_point.empty()) writer.add(name + ".zero_point", params.zero_point);
  if (!params.shift.empty()) writer.add(name + ".shift", params.shift);
}

}  // namespace

void add_params(SafeTensorsWriter& writer, const std::string& name, const QuantParams& params) {
  writer.set_metadata(key_of(name), describe_params(params).dump());
  add_values(writer, name, params);
}

void add_quantized(SafeTensorsWriter& writer, const std::string& name,
                   const QuantizedMatrix& matrix) {
  nlohmann::json description = describe_params(matrix.params());
  description["shape"] = {matrix.rows(), matrix.cols()};
  writer.set_metadata(key_of(name), description.dump());
  add_values(writer, name, matrix.params());
  writer.add(name + ".codes", DType::uint8,
             {static_cast<std::uint64_t>(matrix.rows()),
              static_cast<std::uint64_t>(matrix.rows() == 0 ? 0 : matrix.row_bytes())},
             std::as_bytes(std::span(matrix.bytes())));
}

QuantParams read_params(const TensorFile& file, const std::string& name) {
  QuantParams params = read_params(file, Description(file, name), name);
  check_lengths(file, params);
  check_params(params, 0, 0);  // all but the number of blocks
  return params;
}

QuantizedMatrix read_quantized(const TensorFile& file, const std::string& name) {
  const Description description(file, name);
  const auto [rows, cols] = description.pair("shape");
  return {rows, cols, file.values<std::uint8_t>(name + ".codes"),
          read_params(file, description, name)};
}

void save_params(const std::filesystem::path& path, const QuantParams& params) {
  SafeTensorsWriter writer;
  add_params(writer, kOnly, params);
  writer.write(path);
}

QuantParams load_params(const std::filesystem::path& path) {
  return read_params(SafeTensors(path), kOnly);
}

void save_quantized(const std::filesystem::path& path, const QuantizedMatrix& matrix) {
  SafeTensorsWriter writer;
  add_quantized(writer, kOnly, matrix);
  writer.write(path);
}

QuantizedMatrix load_quantized(const std::filesystem::path& path) {
  return read_quantized(SafeTensors(path), kOnly);
}

}  // namespace kvant::io
