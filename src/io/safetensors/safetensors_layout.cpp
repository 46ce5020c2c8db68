#include "io/safetensors/safetensors_layout.hpp"

#include <algorithm>
#include <array>
#include <numeric>
#include <set>
#include <string_view>

#include "io/file/checked.hpp"
#include "io/safetensors/safetensors_header.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

/// The reference's order of dtypes, narrow first; files go the other way round.
constexpr std::array<std::string_view, 22> kAlignmentOrder = {
    "BOOL",    "F4",          "F6_E2M3",     "F6_E3M2", "U8",  "I8",  "F8_E5M2", "F8_E4M3",
    "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16",     "U16", "F16", "BF16",    "I32",
    "U32",     "F32",         "C64",         "F64",     "I64", "U64"};

std::ptrdiff_t alignment_rank(DType dtype) {
  return std::distance(
      kAlignmentOrder.begin(),
      std::find(kAlignmentOrder.begin(), kAlignmentOrder.end(), describe(dtype).safetensors));
}

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    switch (c) {
      case '"': out += "\\\""; break;
      case '\\': out += "\\\\"; break;
      case '\b': out += "\\b"; break;
      case '\f': out += "\\f"; break;
      case '\n': out += "\\n"; break;
      case '\r': out += "\\r"; break;
      case '\t': out += "\\t"; break;
      default:
        if (byte < 0x20) {
          out += "\\u00";
          out += kHex[byte >> 4];
          out += kHex[byte & 15];
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

void require_utf8(std::string_view text, const char* what) {
  if (find_invalid_utf8(text) != text.size()) {
    throw Error(ErrorCode::invalid_argument,
                std::string("safetensors: a ") + what + " that is not UTF-8");
  }
}

void check_tensor(const TensorSpec& tensor) {
  require_utf8(tensor.name, "name");
  const std::string where = "safetensors: tensor " + in_quotes(tensor.name);
  if (tensor.name == kSafeTensorsMetadata) {
    throw Error(ErrorCode::invalid_argument, where + ": the format keeps this name for itself");
  }
  if (describe(tensor.dtype).safetensors.empty()) {
    throw Error(ErrorCode::unsupported,
                where + ": the format has no name for " + std::string(to_string(tensor.dtype)));
  }
}

void append_metadata(std::string& json, const std::map<std::string, std::string>& metadata) {
  if (metadata.empty()) return;
  append_json_string(json, kSafeTensorsMetadata);
  json += ":{";
  for (const auto& [key, value] : metadata) {
    require_utf8(key, "metadata key");
    require_utf8(value, "metadata value");
    if (json.back() != '{') json += ',';
    append_json_string(json, key);
    json += ':';
    append_json_string(json, value);
  }
  json += '}';
}

void append_tensor(std::string& json, const TensorSpec& tensor, std::uint64_t begin,
                   std::uint64_t end) {
  if (json.size() > 1) json += ',';
  append_json_string(json, tensor.name);
  json += ":{\"dtype\":\"";
  json += describe(tensor.dtype).safetensors;
  json += "\",\"shape\":[";
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
    json += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
  }
  json += "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(end) + "]}";
}

/// The length word in front of the JSON, which is padded to a multiple of 8.
std::string finish_header(std::string json) {
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMaxSafeTensorsHeader) {
    throw Error(ErrorCode::out_of_range, "safetensors: a header of " + std::to_string(json.size()) +
                                             " bytes is above the format's " +
                                             std::to_string(kMaxSafeTensorsHeader) +
                                             "; write smaller shards");
  }
  std::string result(8, '\0');
  const std::uint64_t length = json.size();
  for (std::size_t i = 0; i < 8; ++i) {
    result[i] = static_cast<char>(static_cast<unsigned char>((length >> (8 * i)) & 0xFF));
  }
  return result + json;
}

}  // namespace

SafeTensorsLayout plan_safetensors(const std::vector<TensorSpec>& tensors,
                                   const std::map<std::string, std::string>& metadata) {
  SafeTensorsLayout layout;
  std::set<std::string_view> names;
  for (const TensorSpec& tensor : tensors) {
    check_tensor(tensor);
    layout.bytes.push_back(byte_size(tensor));
    if (!names.insert(tensor.name).second) {
      throw Error(ErrorCode::invalid_argument,
                  "safetensors: tensor " + in_quotes(tensor.name) + " was added twice");
    }
  }
  layout.order.resize(tensors.size());
  std::iota(layout.order.begin(), layout.order.end(), std::size_t{0});
  std::sort(layout.order.begin(), layout.order.end(), [&](std::size_t a, std::size_t b) {
    const std::ptrdiff_t rank_a = alignment_rank(tensors[a].dtype);
    const std::ptrdiff_t rank_b = alignment_rank(tensors[b].dtype);
    return rank_a != rank_b ? rank_a > rank_b : tensors[a].name < tensors[b].name;
  });

  std::string json = "{";
  append_metadata(json, metadata);
  layout.offsets.resize(tensors.size());
  std::uint64_t offset = 0;
  for (const std::size_t i : layout.order) {
    const std::optional<std::uint64_t> end = checked_add(offset, layout.bytes[i]);
    if (!end) throw Error(ErrorCode::out_of_range, "safetensors: more than 2^64-1 bytes");
    append_tensor(json, tensors[i], offset, *end);
    layout.offsets[i] = offset;
    offset = *end;
  }
  layout.header = finish_header(std::move(json));
  for (std::uint64_t& begin : layout.offsets) begin += layout.header.size();
  layout.file_size = layout.header.size() + offset;
  return layout;
}

}  // namespace kvant::io
