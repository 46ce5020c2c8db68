#include "kvant/io/gguf_writer.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>

#include "io/file/byte_order.hpp"
#include "io/file/checked.hpp"
#include "io/gguf/gguf_header.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

constexpr std::uint32_t kVersion = 3;
constexpr std::uint64_t kAlignment = 32;  // what a file has that does not say
constexpr std::size_t kLongestKey = 65535;
constexpr std::size_t kLongestTensorName = 63;  // ggml's limit
constexpr std::size_t kMostDimensions = 4;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(ErrorCode::invalid_argument, "gguf: " + what);
}

/// The bytes of the header, one after the other.
class Header {
 public:
  template <class T>
  void number(T value) {
    static_assert(std::is_arithmetic_v<T>);
    std::byte bytes[sizeof(T)];
    store_little(bytes, value);
    bytes_.append(reinterpret_cast<const char*>(bytes), sizeof(T));
  }
  void type(GgufValueType value) { number(static_cast<std::uint32_t>(value)); }
  void text(std::string_view value) {
    number(static_cast<std::uint64_t>(value.size()));
    bytes_.append(value);
  }
  void pad() { bytes_.resize((bytes_.size() + kAlignment - 1) / kAlignment * kAlignment); }
  [[nodiscard]] const std::string& bytes() const noexcept { return bytes_; }

 private:
  std::string bytes_;
};

template <class T>
constexpr GgufValueType type_of() {
  if constexpr (std::is_same_v<T, std::uint8_t>) return GgufValueType::u8;
  if constexpr (std::is_same_v<T, std::uint32_t>) return GgufValueType::u32;
  if constexpr (std::is_same_v<T, std::int32_t>) return GgufValueType::i32;
  if constexpr (std::is_same_v<T, std::uint64_t>) return GgufValueType::u64;
  if constexpr (std::is_same_v<T, float>) return GgufValueType::f32;
  if constexpr (std::is_same_v<T, bool>) return GgufValueType::boolean;
  if constexpr (std::is_same_v<T, std::string>) return GgufValueType::string;
}

struct WriteValue {
  Header& header;

  template <class T>
  void element(const T& value) const {
    if constexpr (std::is_same_v<T, std::string>) {
      header.text(value);
    } else {
      header.number(value);
    }
  }
  template <class T>
  void operator()(const T& value) const {
    header.type(type_of<T>());
    element(value);
  }
  template <class T>
  void operator()(const std::vector<T>& values) const {
    header.type(GgufValueType::array);
    header.type(type_of<T>());
    header.number(static_cast<std::uint64_t>(values.size()));
    for (const T& value : values) element(value);
  }
};

std::uint64_t checked_bytes(const std::string& name, const GgufType& type,
                            const std::vector<std::uint64_t>& shape) {
  std::optional<std::uint64_t> elements = 1;
  for (const std::uint64_t size : shape) {
    elements =
        elements && size != 0 ? checked_mul(*elements, size) : std::optional<std::uint64_t>();
    if (!elements) break;
  }
  if (std::find(shape.begin(), shape.end(), 0u) != shape.end()) elements = 0;
  const auto bytes = elements ? checked_mul(*elements / type.elements, type.bytes) : std::nullopt;
  if (!bytes || *bytes > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw Error(ErrorCode::out_of_range, "gguf: tensor " + in_quotes(name) + " overflows");
  }
  return *bytes;
}

}  // namespace

GgufWriter::GgufWriter(std::filesystem::path path) : path_(std::move(path)) {}

GgufWriter::~GgufWriter() = default;

void GgufWriter::require_begun(bool begun, const char* what) const {
  if (file_.has_value() != begun) {
    refuse(std::string(what) + (begun ? " before begin()" : " after begin()"));
  }
}

void GgufWriter::set(const std::string& key, GgufValue value) {
  require_begun(false, "set()");
  if (key.empty() || key.size() > kLongestKey || find_invalid_utf8(key) != key.size()) {
    refuse("the key " + in_quotes(key) + " is not UTF-8 of 1 to " + std::to_string(kLongestKey) +
           " bytes");
  }
  if (!keys_.insert(key).second) refuse("the key " + in_quotes(key) + " is there already");
  values_.emplace_back(key, std::move(value));
}

void GgufWriter::add_tensor(const std::string& name, const GgufType& type,
                            std::vector<std::uint64_t> shape) {
  require_begun(false, "add_tensor()");
  if (name.size() > kLongestTensorName || find_invalid_utf8(name) != name.size()) {
    refuse("the tensor name " + in_quotes(name) + " is not UTF-8 of at most " +
           std::to_string(kLongestTensorName) + " bytes");
  }
  if (by_name_.contains(name)) refuse("tensor " + in_quotes(name) + " is there already");
  if (shape.size() > kMostDimensions) {
    refuse("tensor " + in_quotes(name) + " has " + std::to_string(shape.size()) +
           " dimensions, more than " + std::to_string(kMostDimensions));
  }
  const std::uint64_t row = shape.empty() ? 1 : shape.back();
  if (row % type.elements != 0) {
    refuse("tensor " + in_quotes(name) + " has rows of " + std::to_string(row) +
           ", not a multiple of the " + std::to_string(type.elements) + " of a block of " +
           std::string(type.name));
  }
  const std::uint64_t bytes = checked_bytes(name, type, shape);
  const auto padded = checked_add(bytes, kAlignment - 1);
  const auto end = padded ? checked_add(data_bytes_, *padded / kAlignment * kAlignment)
                          : std::optional<std::uint64_t>();
  if (!end || *end > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw Error(ErrorCode::out_of_range, "gguf: the sizes of the tensors overflow");
  }
  by_name_.emplace(name, tensors_.size());
  tensors_.push_back({name, &type, std::move(shape), bytes, data_bytes_});
  data_bytes_ = *end;
  tensor_bytes_ += bytes;
}

void GgufWriter::begin() {
  require_begun(false, "begin()");
  Header header;
  for (const char c : {'G', 'G', 'U', 'F'}) header.number(c);
  header.number(kVersion);
  header.number(static_cast<std::uint64_t>(tensors_.size()));
  header.number(static_cast<std::uint64_t>(values_.size()));
  for (const auto& [key, value] : values_) {
    header.text(key);
    std::visit(WriteValue{header}, value);
  }
  for (const Tensor& tensor : tensors_) {
    header.text(tensor.name);
    header.number(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) {
      header.number(*size);
    }
    header.number(tensor.type->id);
    header.number(tensor.offset);
  }
  header.pad();
  file_.emplace(path_);
  for (Tensor& tensor : tensors_) tensor.offset += header.bytes().size();
  file_->reserve(header.bytes().size() + data_bytes_);
  file_->write_at(0, std::as_bytes(std::span(header.bytes())));
  // The last tensor's padding belongs to the file: readers ask for it.
  if (!tensors_.empty()) {
    const Tensor& last = tensors_.back();
    const std::uint64_t end = last.offset + last.bytes;
    const std::vector<std::byte> padding(
        static_cast<std::size_t>(header.bytes().size() + data_bytes_ - end));
    if (!padding.empty()) file_->write_at(end, padding);
  }
}

void GgufWriter::write(std::string_view tensor, std::uint64_t offset,
                       std::span<const std::byte> bytes) {
  require_begun(true, "write()");
  const auto it = by_name_.find(tensor);
  if (it == by_name_.end()) refuse("there is no tensor " + in_quotes(tensor));
  const Tensor& found = tensors_[it->second];
  if (offset > found.bytes || bytes.size() > found.bytes - offset) {
    throw Error(ErrorCode::out_of_range, "gguf: " + std::to_string(bytes.size()) + " bytes at " +
                                             std::to_string(offset) + " of tensor " +
                                             in_quotes(tensor) + ", which has " +
                                             std::to_string(found.bytes));
  }
  // Blocks are little-endian already.
  const std::size_t turning = found.type->dtype ? turning_bytes(*found.type->dtype) : 1;
  if (kTurnsBytes && (offset % turning != 0 || bytes.size() % turning != 0)) {
    refuse("tensor " + in_quotes(tensor) + " is written in whole elements");
  }
  std::vector<std::byte> turned;
  file_->write_at(found.offset + offset, file_order(bytes, turning, turned));
}

void GgufWriter::commit(AtomicFile::Existing existing) {
  require_begun(true, "commit()");
  file_->commit(existing);
}

void quantize_gguf(const GgufType& type, const float* values, std::int64_t rows, std::int64_t cols,
                   std::byte* out, const std::string& where) {
  if (type.quantize == nullptr || cols % type.elements != 0) {
    refuse(in_quotes(where) + ": rows of " + std::to_string(cols) + " cannot be written as " +
           std::string(type.name));
  }
  const bool wide = type.dtype && *type.dtype != DType::float16;
  const float limit = wide ? std::numeric_limits<float>::max() : kLargestGgufValue;
  const std::int64_t count = rows * cols;
  for (std::int64_t i = 0; i < count; ++i) {
    if (std::fabs(values[i]) <= limit) continue;  // false for a NaN
    throw Error(ErrorCode::not_finite, in_quotes(where) + " holds " + std::to_string(values[i]) +
                                           " (element " + std::to_string(i / cols) + ", " +
                                           std::to_string(i % cols) + "), which " +
                                           std::string(type.name) + " cannot hold");
  }
  for (std::int64_t i = 0; i < count; i += type.elements, out += type.bytes) {
    type.quantize(values + i, out);
  }
}

}  // namespace kvant::io
