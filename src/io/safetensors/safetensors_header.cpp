#include "io/safetensors/safetensors_header.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "io/file/checked.hpp"
#include "io/json/json_sax.hpp"
#include "io/text/quoting.hpp"
#include "kvant/io/format_error.hpp"

namespace kvant::io {
namespace {

constexpr std::size_t kLengthBytes = 8;

std::uint64_t read_le64(std::span<const std::byte> bytes) {
  std::uint64_t value = 0;
  for (std::size_t i = kLengthBytes; i-- > 0;) {
    value = (value << 8) | std::to_integer<std::uint64_t>(bytes[i]);
  }
  return value;
}

/// The header's events as a small state machine. depth_ counts open objects and arrays; 1 is the
/// header object, 2 a tensor or __metadata__, 3 a field's array; skip_depth_ > 0 is the depth at
/// which an unknown field's value began.
class HeaderReader final : public JsonHandler {
 public:
  HeaderReader(std::string file, SafeTensorsHeader& out) : file_(std::move(file)), out_(out) {}

  [[nodiscard]] std::string where() const override {
    if (place_ == Place::tensor) return file_ + ": tensor " + in_quotes(tensor_.name);
    if (place_ == Place::metadata) return file_ + ": __metadata__";
    return file_ + ": header";
  }

  void on_event(const JsonValue& value) override {
    const bool opens =
        value.event == JsonEvent::start_object || value.event == JsonEvent::start_array;
    const bool closes = value.event == JsonEvent::end_object || value.event == JsonEvent::end_array;
    if (skipping_) {
      if (opens) ++skip_depth_;
      if (closes) --skip_depth_;
      if (skip_depth_ == 0 && value.event != JsonEvent::key) skipping_ = false;
      return;
    }
    switch (place_) {
      case Place::top: top(value); break;
      case Place::metadata: metadata(value); break;
      case Place::tensor: tensor(value); break;
    }
  }

  /// The names of dtypes that kvant does not know, with their tensors: reported after all of the
  /// header was read, so that a broken header is called broken.
  [[nodiscard]] const std::string& unknown_dtype() const noexcept { return unknown_dtype_; }

 private:
  enum class Place : std::uint8_t { top, metadata, tensor };
  enum class Field : std::uint8_t { none, dtype, shape, offsets };

  [[noreturn]] void fail(const std::string& what) const {
    throw FormatError(FormatErrorKind::structure, where() + ": " + what);
  }

  void top(const JsonValue& value) {
    switch (value.event) {
      case JsonEvent::key: key_ = value.text; break;
      case JsonEvent::start_object:
        if (!inside_) {  // the header itself
          inside_ = true;
        } else if (key_ == kSafeTensorsMetadata) {
          place_ = Place::metadata;
        } else {
          place_ = Place::tensor;
          tensor_ = TensorInfo{};
          tensor_.name = std::move(key_);
          offsets_.clear();
          field_ = Field::none;
          seen_dtype_ = seen_shape_ = seen_offsets_ = false;
        }
        break;
      case JsonEvent::end_object: break;
      case JsonEvent::null:
        if (key_ == kSafeTensorsMetadata) break;  // counts as absent, as in the reference
        [[fallthrough]];
      default: fail(in_quotes(key_) + " is not an object");
    }
  }

  void metadata(const JsonValue& value) {
    switch (value.event) {
      case JsonEvent::key: key_ = value.text; break;
      case JsonEvent::string: out_.metadata.emplace(key_, value.text); break;
      case JsonEvent::end_object: place_ = Place::top; break;
      default: fail("the value of " + in_quotes(key_) + " is not a string");
    }
  }

  void tensor(const JsonValue& value) {
    if (in_array_) {
      array_element(value);
    } else if (value.event == JsonEvent::key) {
      start_field(value.text);
    } else if (value.event == JsonEvent::end_object) {
      finish_tensor();
    } else if (field_ == Field::dtype) {
      if (value.event != JsonEvent::string) fail("dtype is not a string");
      seen_dtype_ = true;
      if (const std::optional<DType> dtype = dtype_from_safetensors(value.text)) {
        tensor_.dtype = *dtype;
      } else if (unknown_dtype_.empty()) {
        unknown_dtype_ = where() + ": unknown dtype " + in_quotes(value.text);
      }
    } else if (value.event == JsonEvent::start_array) {
      in_array_ = true;
    } else {
      fail(field_ == Field::shape ? "shape is not an array" : "data_offsets is not an array");
    }
  }

  void start_field(std::string_view name) {
    if (name == "dtype") {
      field_ = Field::dtype;
    } else if (name == "shape") {
      field_ = Field::shape;
    } else if (name == "data_offsets") {
      field_ = Field::offsets;
    } else {  // unknown fields are skipped, as in the reference; their value must be JSON
      skipping_ = true;
      skip_depth_ = 0;
    }
  }

  void array_element(const JsonValue& value) {
    const bool shape = field_ == Field::shape;
    if (value.event == JsonEvent::end_array) {
      in_array_ = false;
      (shape ? seen_shape_ : seen_offsets_) = true;
      if (!shape && offsets_.size() != 2) {
        fail("data_offsets has " + std::to_string(offsets_.size()) + " elements, not 2");
      }
    } else if (value.event == JsonEvent::unsigned_number) {
      (shape ? tensor_.shape : offsets_).push_back(value.number);
    } else {
      fail(std::string(shape ? "shape" : "data_offsets") +
           " holds something that is not a whole number from 0 to 2^64-1");
    }
  }

  void finish_tensor() {
    if (!seen_dtype_) fail("dtype is missing");
    if (!seen_shape_) fail("shape is missing");
    if (!seen_offsets_) fail("data_offsets is missing");
    tensor_.file_offset = offsets_[0];  // in the data buffer, until all of the header is known
    tensor_.bytes = offsets_[1];        // END for now: it is judged when all are known
    out_.tensors.push_back(std::move(tensor_));
    place_ = Place::top;
    key_.clear();
  }

  std::string file_;
  SafeTensorsHeader& out_;
  Place place_ = Place::top;
  Field field_ = Field::none;
  bool inside_ = false;
  bool in_array_ = false;
  bool skipping_ = false;
  bool seen_dtype_ = false;
  bool seen_shape_ = false;
  bool seen_offsets_ = false;
  std::size_t skip_depth_ = 0;
  std::string key_;
  std::string unknown_dtype_;
  TensorInfo tensor_;
  std::vector<std::uint64_t> offsets_;
};

/// Steps 6 to 11 of the reference: in the order of the bytes, no hole, no overlap, sizes as the
/// shapes say, and nothing left over at the end.
void check_layout(SafeTensorsHeader& header, std::size_t file_size, const std::string& file) {
  std::sort(header.tensors.begin(), header.tensors.end(),
            [](const TensorInfo& a, const TensorInfo& b) {
              return std::pair(a.file_offset, a.bytes) < std::pair(b.file_offset, b.bytes);
            });
  std::uint64_t expected = 0;
  for (TensorInfo& tensor : header.tensors) {
    const std::string where = file + ": tensor " + in_quotes(tensor.name);
    const std::uint64_t begin = tensor.file_offset;
    const std::uint64_t end = tensor.bytes;
    if (begin != expected || end < begin) {
      throw FormatError(FormatErrorKind::offset,
                        where + ": data_offsets [" + std::to_string(begin) + ", " +
                            std::to_string(end) + "], but the tensor before it ends at " +
                            std::to_string(expected) +
                            (begin < expected   ? " (overlap)"
                             : begin > expected ? " (hole)"
                                                : " (end before begin)"));
    }
    const std::uint64_t bytes = tensor_bytes(tensor.shape, tensor.dtype, where);
    if (end - begin != bytes) {
      throw FormatError(FormatErrorKind::size, where + ": data_offsets span " +
                                                   std::to_string(end - begin) + " bytes, but " +
                                                   describe_tensor(tensor.dtype, tensor.shape) +
                                                   " needs " + std::to_string(bytes));
    }
    tensor.bytes = bytes;
    expected = end;
  }
  const std::uint64_t available = file_size - header.data_begin;
  if (expected != available) {
    throw FormatError(
        expected > available ? FormatErrorKind::incomplete : FormatErrorKind::trailing_bytes,
        file + ": the tensors" +
            (header.tensors.empty()
                 ? std::string()
                 : ", the last being " + in_quotes(header.tensors.back().name) + ",") +
            " take " + std::to_string(expected) + " bytes, the file holds " +
            std::to_string(available) + " after its header");
  }
}

}  // namespace

SafeTensorsHeader parse_safetensors(std::span<const std::byte> file, const std::string& name) {
  if (file.size() < kLengthBytes) {
    throw FormatError(FormatErrorKind::too_small,
                      name + ": " + std::to_string(file.size()) +
                          " bytes; a safetensors file begins with an 8-byte header length");
  }
  const std::string_view text(reinterpret_cast<const char*>(file.data()),
                              std::min<std::size_t>(file.size(), 256));
  if (const std::string_view pointer = git_lfs_pointer(text); !pointer.empty()) {
    throw FormatError(FormatErrorKind::too_large, name + ": " + std::string(pointer));
  }
  const std::uint64_t length = read_le64(file);
  if (length > kMaxSafeTensorsHeader) {
    throw FormatError(FormatErrorKind::too_large,
                      name + ": header length " + std::to_string(length) + " is above " +
                          std::to_string(kMaxSafeTensorsHeader) + " (is this a safetensors file?)");
  }
  const std::optional<std::uint64_t> data_begin = checked_add(kLengthBytes, length);
  if (!data_begin || *data_begin > file.size()) {
    throw FormatError(FormatErrorKind::bad_length,
                      name + ": the header of " + std::to_string(length) +
                          " bytes does not fit the file of " + std::to_string(file.size()));
  }
  SafeTensorsHeader header;
  header.data_begin = static_cast<std::size_t>(*data_begin);
  HeaderReader reader(name, header);
  parse_json_object(file.subspan(kLengthBytes, static_cast<std::size_t>(length)), reader);
  if (!reader.unknown_dtype().empty()) {
    throw FormatError(FormatErrorKind::unsupported, reader.unknown_dtype());
  }
  check_layout(header, file.size(), name);
  for (TensorInfo& tensor : header.tensors) tensor.file_offset += header.data_begin;
  return header;
}

}  // namespace kvant::io
