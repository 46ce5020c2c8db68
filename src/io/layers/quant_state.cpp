#include "io/layers/quant_state.hpp"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "io/json/json_tree.hpp"
#include "io/layers/start_layer.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

/// Of a float as Python writes it: 17 digits, a point and "e-45", or "0.000" before the digits.
constexpr std::size_t kLongestNumber = 22;

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

/// Python's repr of a double: the shortest digits that read back as it, with a point or an
/// exponent.
std::string number_text(double value) {
  char text[64];
  const auto shortest =
      std::to_chars(text, text + sizeof text, value, std::chars_format::scientific);
  const std::string scientific(text, shortest.ptr);
  const std::size_t e = scientific.find('e');
  const int exponent = std::atoi(scientific.c_str() + e + 1);
  if (exponent < -4 || exponent >= 16) return scientific;
  const auto digits = static_cast<int>(e) - (value < 0 ? 1 : 0) - (e > 2 ? 1 : 0);
  const int decimals = std::max(1, digits - 1 - exponent);
  const auto fixed =
      std::to_chars(text, text + sizeof text, value, std::chars_format::fixed, decimals);
  return {text, fixed.ptr};
}

std::string state_text(const QuantState& state, const std::string& offset) {
  std::string text = "{\"quant_type\": \"" + std::string(to_string(state.format)) +
                     "\", \"blocksize\": " + std::to_string(state.blocksize) + ", \"dtype\": \"" +
                     std::string(to_string(state.dtype)) + "\", \"shape\": [" +
                     std::to_string(state.outputs) + ", " + std::to_string(state.inputs) + "]";
  if (state.nested) {
    text += ", \"nested_blocksize\": " + std::to_string(state.nested_blocksize) +
            ", \"nested_dtype\": \"float32\", \"nested_offset\": " + offset;
  }
  return text + "}";
}

}  // namespace

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

std::string state_text(const QuantState& state) {
  return state_text(state, number_text(static_cast<double>(state.nested_offset)));
}

std::size_t longest_state_text(const QuantState& state) {
  return state_text(state, std::string(kLongestNumber, '0')).size();
}

}  // namespace kvant::io
