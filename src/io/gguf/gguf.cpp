#include "kvant/io/gguf.hpp"

#include <algorithm>
#include <cstring>
#include <fstream>
#include <limits>
#include <system_error>
#include <utility>

#include "io/file/byte_order.hpp"
#include "io/gguf/gguf_header.hpp"
#include "io/text/quoting.hpp"
#include "kvant/error.hpp"

namespace kvant::io {
namespace {

template <class T>
T load(std::span<const std::byte> bytes) noexcept {
  return load_little<T>(bytes.data());
}

std::string_view as_text(std::span<const std::byte> bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::optional<std::int64_t> integer_in(GgufValueType type,
                                       std::span<const std::byte> value) noexcept {
  switch (type) {
    case GgufValueType::u8: return load<std::uint8_t>(value);
    case GgufValueType::i8: return load<std::int8_t>(value);
    case GgufValueType::u16: return load<std::uint16_t>(value);
    case GgufValueType::i16: return load<std::int16_t>(value);
    case GgufValueType::u32: return load<std::uint32_t>(value);
    case GgufValueType::i32: return load<std::int32_t>(value);
    case GgufValueType::i64: return load<std::int64_t>(value);
    case GgufValueType::u64: {
      const auto number = load<std::uint64_t>(value);
      if (number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) break;
      return static_cast<std::int64_t>(number);
    }
    default: break;
  }
  return std::nullopt;
}

std::optional<double> number_in(GgufValueType type, std::span<const std::byte> value) noexcept {
  if (type == GgufValueType::f32) return static_cast<double>(load<float>(value));
  if (type == GgufValueType::f64) return load<double>(value);
  if (const auto integer = integer_in(type, value)) return static_cast<double>(*integer);
  return std::nullopt;
}

/// What short values say, for those who look at a file.
std::map<std::string, std::string> short_values(const GgufHeader& header) {
  constexpr std::size_t kShort = 200;
  std::map<std::string, std::string> result;
  for (const GgufPair& pair : header.pairs) {
    std::string text;
    if (pair.type == GgufValueType::string) {
      text = as_text(pair.value);
      if (text.size() > kShort || find_invalid_utf8(text) != text.size()) continue;
    } else if (const auto integer = integer_in(pair.type, pair.value)) {
      text = std::to_string(*integer);
    } else if (const auto number = number_in(pair.type, pair.value)) {
      text = std::to_string(*number);
    } else {
      continue;
    }
    result.emplace(pair.key, std::move(text));
  }
  return result;
}

/// An array's element type, and its elements.
struct Array {
  explicit Array(std::span<const std::byte> value) noexcept
      : type(static_cast<GgufValueType>(load<std::uint32_t>(value))),
        count(load<std::uint64_t>(value.subspan(4))),
        elements(value.subspan(12)) {}
  GgufValueType type;
  std::uint64_t count;
  std::span<const std::byte> elements;
};

}  // namespace

bool has_gguf_name(const std::filesystem::path& path) {
  std::string end = path.extension().string();
  for (char& c : end) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return end == ".gguf";
}

bool starts_as_gguf(const std::filesystem::path& path) noexcept {
  try {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return false;
    char magic[4] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
    return std::memcmp(magic, "GGUF", sizeof magic) == 0;
  } catch (...) {
    return false;
  }
}

bool is_gguf_file(const std::filesystem::path& path) noexcept {
  try {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return false;
    return path.extension() == ".gguf" || starts_as_gguf(path);
  } catch (...) {
    return false;
  }
}

Gguf::Gguf(const std::filesystem::path& path, LoadMode mode)
    : TensorFile(path, mode, [](std::span<const std::byte> file, const std::string& name) {
        GgufHeader header = parse_gguf(file, name);
        return Contents{std::move(header.infos), short_values(header)};
      }) {
  index();
}

Gguf::Gguf(std::span<const std::byte> bytes, std::string name)
    : TensorFile(bytes, std::move(name),
                 [](std::span<const std::byte> file, const std::string& file_name) {
                   GgufHeader header = parse_gguf(file, file_name);
                   return Contents{std::move(header.infos), short_values(header)};
                 }) {
  index();
}

Gguf Gguf::from_bytes(std::span<const std::byte> bytes, std::string name) {
  return {bytes, std::move(name)};
}

void Gguf::index() {
  GgufHeader header = parse_gguf(file_bytes(), name());
  gguf_tensors_ = std::move(header.tensors);
  entries_.reserve(header.pairs.size());
  for (const GgufPair& pair : header.pairs) {
    entries_.push_back({pair.key, static_cast<std::uint32_t>(pair.type), pair.value});
  }
  by_key_.resize(entries_.size());
  for (std::size_t i = 0; i < by_key_.size(); ++i) by_key_[i] = i;
  std::sort(by_key_.begin(), by_key_.end(),
            [this](std::size_t a, std::size_t b) { return entries_[a].key < entries_[b].key; });
}

const Gguf::Entry* Gguf::find_entry(std::string_view key) const noexcept {
  const auto it = std::lower_bound(
      by_key_.begin(), by_key_.end(), key,
      [this](std::size_t index, std::string_view wanted) { return entries_[index].key < wanted; });
  if (it == by_key_.end() || entries_[*it].key != key) return nullptr;
  return &entries_[*it];
}

bool Gguf::has(std::string_view key) const noexcept {
  return find_entry(key) != nullptr;
}

std::optional<std::int64_t> Gguf::integer(std::string_view key) const noexcept {
  const Entry* entry = find_entry(key);
  if (entry == nullptr) return std::nullopt;
  return integer_in(static_cast<GgufValueType>(entry->type), entry->value);
}

std::optional<double> Gguf::number(std::string_view key) const noexcept {
  const Entry* entry = find_entry(key);
  if (entry == nullptr) return std::nullopt;
  return number_in(static_cast<GgufValueType>(entry->type), entry->value);
}

std::optional<bool> Gguf::boolean(std::string_view key) const noexcept {
  const Entry* entry = find_entry(key);
  if (entry == nullptr || static_cast<GgufValueType>(entry->type) != GgufValueType::boolean) {
    return std::nullopt;
  }
  return load<std::uint8_t>(entry->value) != 0;
}

std::optional<std::string_view> Gguf::text(std::string_view key) const noexcept {
  const Entry* entry = find_entry(key);
  if (entry == nullptr || static_cast<GgufValueType>(entry->type) != GgufValueType::string) {
    return std::nullopt;
  }
  return as_text(entry->value);
}

std::optional<std::vector<std::string_view>> Gguf::texts(std::string_view key) const {
  const Entry* entry = find_entry(key);
  if (entry == nullptr || static_cast<GgufValueType>(entry->type) != GgufValueType::array) {
    return std::nullopt;
  }
  const Array array(entry->value);
  if (array.type != GgufValueType::string) return std::nullopt;
  std::vector<std::string_view> result;
  result.reserve(static_cast<std::size_t>(array.count));
  std::span<const std::byte> rest = array.elements;
  for (std::uint64_t i = 0; i < array.count; ++i) {
    const auto length = static_cast<std::size_t>(load<std::uint64_t>(rest));
    result.push_back(as_text(rest.subspan(8, length)));
    rest = rest.subspan(8 + length);
  }
  return result;
}

std::optional<std::vector<double>> Gguf::numbers(std::string_view key) const {
  const Entry* entry = find_entry(key);
  if (entry == nullptr || static_cast<GgufValueType>(entry->type) != GgufValueType::array) {
    return std::nullopt;
  }
  const Array array(entry->value);
  const auto size = static_cast<std::size_t>(gguf_value_size(array.type));
  if (size == 0) return std::nullopt;
  std::vector<double> result;
  result.reserve(static_cast<std::size_t>(array.count));
  for (std::size_t i = 0; i < array.count; ++i) {
    const auto number = number_in(array.type, array.elements.subspan(i * size, size));
    if (!number) return std::nullopt;
    result.push_back(*number);
  }
  return result;
}

std::vector<std::string_view> Gguf::keys() const {
  std::vector<std::string_view> result;
  for (const Entry& entry : entries_) result.push_back(entry.key);
  return result;
}

const GgufTensor* Gguf::find_gguf(std::string_view name) const noexcept {
  const TensorInfo* info = find(name);
  if (info == nullptr) return nullptr;
  return &gguf_tensors_[static_cast<std::size_t>(info - tensors().data())];
}

void Gguf::dequantize(std::string_view name, std::int64_t first, std::int64_t count,
                      float* out) const {
  const TensorView view = tensor(name);  // throws
  const GgufTensor& described = *find_gguf(name);
  const GgufType& type = *described.type;
  if (type.dequantize == nullptr) {
    throw Error(ErrorCode::unsupported, this->name() + ": tensor " + in_quotes(name) + " is " +
                                            std::string(type.name) +
                                            ", whose values kvant does not read");
  }
  const std::uint64_t row = described.shape.empty() ? 1 : described.shape.back();
  const std::uint64_t blocks = row / type.elements;
  const std::uint64_t row_bytes = blocks * type.bytes;
  const std::uint64_t rows = row_bytes == 0 ? 0 : view.data.size() / row_bytes;
  if (first < 0 || count < 0 || static_cast<std::uint64_t>(first) > rows ||
      static_cast<std::uint64_t>(count) > rows - static_cast<std::uint64_t>(first)) {
    throw Error(ErrorCode::out_of_range, this->name() + ": rows " + std::to_string(first) + " to " +
                                             std::to_string(first + count) + " of tensor " +
                                             in_quotes(name) + ", which has " +
                                             std::to_string(rows));
  }
  const std::byte* block = view.data.data() + static_cast<std::uint64_t>(first) * row_bytes;
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(count) * blocks; ++i) {
    type.dequantize(block, out);
    block += type.bytes;
    out += type.elements;
  }
}

}  // namespace kvant::io
