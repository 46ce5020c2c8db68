#include "kvant/io/safetensors_writer.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <string_view>
#include <utility>

#include "io/json_sax.hpp"
#include "io/safetensors_header.hpp"
#include "kvant/io/atomic_file.hpp"

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
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
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
                std::string("SafeTensorsWriter: a ") + what + " that is not UTF-8");
  }
}

}  // namespace

void SafeTensorsWriter::add(std::string name, DType dtype, std::vector<std::uint64_t> shape,
                            std::span<const std::byte> data) {
  require_utf8(name, "name");
  const std::string where = "SafeTensorsWriter: tensor " + in_quotes(name);
  if (name == kSafeTensorsMetadata) {
    throw Error(ErrorCode::invalid_argument, where + ": the format keeps this name for itself");
  }
  if (describe(dtype).safetensors.empty()) {
    throw Error(ErrorCode::unsupported,
                where + ": safetensors has no name for " + std::string(to_string(dtype)));
  }
  if (const std::uint64_t bytes = tensor_bytes(shape, dtype, where); bytes != data.size()) {
    throw Error(ErrorCode::shape_mismatch,
                where + ": " + describe_tensor(dtype, shape) + " needs " + std::to_string(bytes) +
                    " bytes, the data has " + std::to_string(data.size()));
  }
  const std::string key = name;
  if (!tensors_.try_emplace(key, Tensor{std::move(name), dtype, std::move(shape), data}).second) {
    throw Error(ErrorCode::invalid_argument, where + " was added twice");
  }
}

void SafeTensorsWriter::set_metadata(const std::string& key, const std::string& value) {
  require_utf8(key, "metadata key");
  require_utf8(value, "metadata value");
  metadata_[key] = value;
}

std::vector<const SafeTensorsWriter::Tensor*> SafeTensorsWriter::plan() const {
  std::vector<const Tensor*> order;
  for (const auto& [name, tensor] : tensors_) order.push_back(&tensor);  // by name already
  std::stable_sort(order.begin(), order.end(), [](const Tensor* a, const Tensor* b) {
    return alignment_rank(a->dtype) > alignment_rank(b->dtype);
  });
  return order;
}

std::string SafeTensorsWriter::header(const std::vector<const Tensor*>& order) const {
  std::string json = "{";
  if (!metadata_.empty()) {
    append_json_string(json, kSafeTensorsMetadata);
    json += ":{";
    for (const auto& [key, value] : metadata_) {
      if (json.back() != '{') json += ',';
      append_json_string(json, key);
      json += ':';
      append_json_string(json, value);
    }
    json += '}';
  }
  std::uint64_t offset = 0;
  for (const Tensor* tensor : order) {
    if (json.size() > 1) json += ',';
    append_json_string(json, tensor->name);
    json += ":{\"dtype\":\"";
    json += describe(tensor->dtype).safetensors;
    json += "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor->shape.size(); ++i) {
      json += (i == 0 ? "" : ",") + std::to_string(tensor->shape[i]);
    }
    json += "],\"data_offsets\":[" + std::to_string(offset) + ",";
    offset += tensor->data.size();  // sizes of spans in memory: cannot wrap 64 bits
    json += std::to_string(offset) + "]}";
  }
  json += '}';
  json.append((8 - json.size() % 8) % 8, ' ');
  if (json.size() > kMaxSafeTensorsHeader) {
    throw Error(ErrorCode::out_of_range,
                "SafeTensorsWriter: a header of " + std::to_string(json.size()) +
                    " bytes is above the format's " + std::to_string(kMaxSafeTensorsHeader));
  }
  std::string result(8, '\0');
  const std::uint64_t length = json.size();
  for (std::size_t i = 0; i < 8; ++i) {
    result[i] = static_cast<char>(static_cast<unsigned char>((length >> (8 * i)) & 0xFF));
  }
  return result + json;
}

void SafeTensorsWriter::write(const std::filesystem::path& path) const {
  const std::vector<const Tensor*> order = plan();
  const std::string head = header(order);
  AtomicFile file(path);
  file.write(head);
  for (const Tensor* tensor : order) file.write(tensor->data);
  file.commit();
}

std::vector<std::byte> SafeTensorsWriter::to_bytes() const {
  const std::vector<const Tensor*> order = plan();
  const std::string head = header(order);
  const auto bytes = std::as_bytes(std::span(head));
  std::vector<std::byte> result(bytes.begin(), bytes.end());
  for (const Tensor* tensor : order) {
    result.insert(result.end(), tensor->data.begin(), tensor->data.end());
  }
  return result;
}

}  // namespace kvant::io
