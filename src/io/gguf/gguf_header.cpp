#include "io/gguf/gguf_header.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <unordered_set>

#include "io/file/byte_order.hpp"
#include "io/file/checked.hpp"
#include "io/text/quoting.hpp"

namespace kvant::io {
namespace {

constexpr std::uint64_t kLongestName = 65535;
constexpr std::uint32_t kLargestAlignment = 1u << 20;
constexpr std::uint64_t kSmallestPair = 8 + 1 + 4 + 1;
constexpr std::uint64_t kSmallestTensor = 8 + 4 + 4 + 8;
constexpr std::uint64_t kLargestCount = std::numeric_limits<std::int64_t>::max();

/// Bytes of a file from front to back; every read is checked against what is left.
class Reader {
 public:
  Reader(std::span<const std::byte> file, const std::string& name)
      : file_(file), rest_(file), name_(name) {}

  [[noreturn]] void fail(FormatErrorKind kind, const std::string& what) const {
    throw FormatError(kind, name_ + ": " + what + " (at byte " + std::to_string(position()) + ")");
  }
  [[nodiscard]] std::uint64_t position() const { return file_.size() - rest_.size(); }
  [[nodiscard]] std::uint64_t left() const { return rest_.size(); }

  std::span<const std::byte> take(std::uint64_t bytes, const char* what) {
    if (bytes > rest_.size()) {
      fail(FormatErrorKind::bad_length, std::string(what) + " takes " + std::to_string(bytes) +
                                            " bytes, " + std::to_string(rest_.size()) +
                                            " are left");
    }
    const auto taken = rest_.first(static_cast<std::size_t>(bytes));
    rest_ = rest_.subspan(taken.size());
    return taken;
  }
  template <class T>
  T number(const char* what) {
    return load_little<T>(take(sizeof(T), what).data());
  }
  std::string_view text(const char* what) {
    const auto bytes = take(number<std::uint64_t>(what), what);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  }
  /// A text that is a name.
  std::string_view name_text(const char* what) {
    const std::string_view text = this->text(what);
    if (text.size() > kLongestName) {
      fail(FormatErrorKind::too_large, std::string(what) + " has " + std::to_string(text.size()) +
                                           " bytes, more than " + std::to_string(kLongestName));
    }
    if (find_invalid_utf8(text) != text.size()) {
      fail(FormatErrorKind::utf8, std::string(what) + " " + in_quotes(text) + " is not UTF-8");
    }
    return text;
  }

 private:
  std::span<const std::byte> file_;
  std::span<const std::byte> rest_;
  const std::string& name_;
};

GgufValueType value_type(Reader& reader) {
  const auto type = reader.number<std::uint32_t>("the type of a value");
  if (type > static_cast<std::uint32_t>(GgufValueType::f64)) {
    reader.fail(FormatErrorKind::unsupported, "there is no type of values " + std::to_string(type));
  }
  return static_cast<GgufValueType>(type);
}

void skip_array(Reader& reader) {
  const GgufValueType type = value_type(reader);
  const auto count = reader.number<std::uint64_t>("the length of an array");
  if (type == GgufValueType::array) {
    reader.fail(FormatErrorKind::structure, "an array of arrays");
  }
  if (type != GgufValueType::string) {
    const auto bytes = checked_mul(count, gguf_value_size(type));
    if (!bytes) reader.fail(FormatErrorKind::overflow, "the bytes of an array overflow");
    reader.take(*bytes, "an array");
    return;
  }
  if (count > reader.left() / sizeof(std::uint64_t)) {
    reader.fail(FormatErrorKind::bad_length,
                "an array of " + std::to_string(count) + " strings is longer than the file");
  }
  for (std::uint64_t i = 0; i < count; ++i) (void)reader.text("a string of an array");
}

GgufPair read_pair(Reader& reader, std::span<const std::byte> file) {
  GgufPair pair;
  pair.key = reader.name_text("a key");
  if (pair.key.empty()) reader.fail(FormatErrorKind::structure, "an empty key");
  pair.type = value_type(reader);
  if (pair.type == GgufValueType::string) {
    pair.value = std::as_bytes(std::span(reader.text("a string")));
  } else if (pair.type == GgufValueType::array) {
    const std::uint64_t begin = reader.position();
    skip_array(reader);
    pair.value = file.subspan(static_cast<std::size_t>(begin),
                              static_cast<std::size_t>(reader.position() - begin));
  } else {
    pair.value = reader.take(gguf_value_size(pair.type), "a value");
  }
  return pair;
}

std::uint64_t alignment_of(const Reader& reader, const GgufHeader& header) {
  for (const GgufPair& pair : header.pairs) {
    if (pair.key != "general.alignment") continue;
    std::uint32_t alignment = 0;
    if (pair.type == GgufValueType::u32) {
      alignment = load_little<std::uint32_t>(pair.value.data());
    }
    if (alignment == 0 || alignment > kLargestAlignment || (alignment & (alignment - 1)) != 0) {
      reader.fail(FormatErrorKind::structure,
                  "general.alignment is not a u32 that is a power of two up to " +
                      std::to_string(kLargestAlignment));
    }
    return alignment;
  }
  return 32;
}

const GgufType& type_by_id(const Reader& reader, std::uint32_t id, std::string_view tensor) {
  const auto types = gguf_types();
  const auto it =
      std::find_if(types.begin(), types.end(), [&](const GgufType& type) { return type.id == id; });
  if (it == types.end()) {
    reader.fail(FormatErrorKind::unsupported, "tensor " + in_quotes(tensor) + " has the type " +
                                                  std::to_string(id) +
                                                  ", which does not exist or was removed");
  }
  return *it;
}

/// Name, dimensions and type; info.file_offset is the offset as the file has it.
void read_tensor(Reader& reader, GgufHeader& header) {
  const std::string_view name = reader.name_text("a tensor's name");
  const auto fail = [&](FormatErrorKind kind, const std::string& what) {
    reader.fail(kind, "tensor " + in_quotes(name) + what);
  };
  const auto dimensions = reader.number<std::uint32_t>("the number of dimensions");
  if (dimensions > 4) {
    fail(FormatErrorKind::structure,
         " has " + std::to_string(dimensions) + " dimensions, not 0 to 4");
  }
  GgufTensor tensor;
  for (std::uint32_t i = 0; i < dimensions; ++i) {
    tensor.shape.push_back(reader.number<std::uint64_t>("a dimension"));
    if (tensor.shape.back() > kLargestCount) {
      fail(FormatErrorKind::overflow, " has the dimension " + std::to_string(tensor.shape.back()));
    }
  }
  tensor.type = &type_by_id(reader, reader.number<std::uint32_t>("a tensor's type"), name);
  const std::uint64_t row = tensor.shape.empty() ? 1 : tensor.shape.front();
  std::reverse(tensor.shape.begin(), tensor.shape.end());  // as everyone else has it
  if (row % tensor.type->elements != 0) {
    fail(FormatErrorKind::misaligned, " has rows of " + std::to_string(row) +
                                          ", not a multiple of the " +
                                          std::to_string(tensor.type->elements) +
                                          " of a block of " + std::string(tensor.type->name));
  }
  std::uint64_t elements = 1;
  for (const std::uint64_t size : tensor.shape) {
    const auto product = size == 0 || elements == 0 ? 0 : checked_mul(elements, size);
    if (!product || *product > kLargestCount) {
      fail(FormatErrorKind::overflow, " has more elements than 63 bits count");
    }
    elements = *product;
  }
  const auto bytes = checked_mul(elements / tensor.type->elements, tensor.type->bytes);
  if (!bytes || *bytes > kLargestCount) fail(FormatErrorKind::overflow, "'s bytes overflow");

  TensorInfo info;
  info.name = name;
  info.shape = tensor.shape;
  info.bytes = *bytes;
  info.file_offset = reader.number<std::uint64_t>("a tensor's offset");
  if (tensor.type->dtype) {
    info.dtype = *tensor.type->dtype;
  } else {  // blocks as what they are: bytes
    info.dtype = DType::uint8;
    info.shape.back() = row / tensor.type->elements * tensor.type->bytes;
  }
  header.tensors.push_back(std::move(tensor));
  header.infos.push_back(std::move(info));
}

/// Tensors fill the data section in order, each from the next multiple of the alignment on.
void place_tensors(const Reader& reader, GgufHeader& header, std::uint64_t file_size) {
  const std::uint64_t alignment = alignment_of(reader, header);
  const auto padded = [&](std::uint64_t size) {
    const auto sum = checked_add(size, alignment - 1);
    if (!sum) reader.fail(FormatErrorKind::overflow, "the sizes of the tensors overflow");
    return *sum / alignment * alignment;
  };
  const std::uint64_t data = padded(reader.position());
  std::uint64_t expected = 0;
  for (TensorInfo& info : header.infos) {
    if (info.file_offset != expected) {
      reader.fail(FormatErrorKind::offset, "tensor " + in_quotes(info.name) + " is said to be at " +
                                               std::to_string(info.file_offset) +
                                               " of the data, it follows at " +
                                               std::to_string(expected));
    }
    const auto begin = checked_add(data, expected);
    const auto end = begin ? checked_add(*begin, info.bytes) : std::nullopt;
    if (!end || *end > file_size) {
      reader.fail(FormatErrorKind::incomplete,
                  "tensor " + in_quotes(info.name) + " of " + std::to_string(info.bytes) +
                      " bytes ends beyond the file of " + std::to_string(file_size));
    }
    info.file_offset = *begin;
    const auto next = checked_add(expected, padded(info.bytes));
    if (!next) reader.fail(FormatErrorKind::overflow, "the sizes of the tensors overflow");
    expected = *next;
  }
  if (data > file_size && !header.infos.empty()) {
    reader.fail(FormatErrorKind::incomplete, "there is no data section");
  }
}

template <class List, class Name>
void check_unique(const Reader& reader, const List& list, const char* what, const Name& name_of) {
  std::unordered_set<std::string_view> seen;
  seen.reserve(list.size());
  for (const auto& each : list) {
    if (!seen.insert(name_of(each)).second) {
      reader.fail(FormatErrorKind::duplicate,
                  std::string(what) + " " + in_quotes(name_of(each)) + " is there twice");
    }
  }
}

}  // namespace

std::uint64_t gguf_value_size(GgufValueType type) noexcept {
  constexpr std::array<std::uint64_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kSizes[static_cast<std::size_t>(type)];
}

GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name) {
  Reader reader(file, name);
  if (file.size() < 24) {
    reader.fail(FormatErrorKind::too_small,
                "a file of " + std::to_string(file.size()) + " bytes is no GGUF file");
  }
  if (std::memcmp(reader.take(4, "the magic").data(), "GGUF", 4) != 0) {
    reader.fail(FormatErrorKind::structure, "does not begin with GGUF");
  }
  const auto version = reader.number<std::uint32_t>("the version");
  if ((version & 0xFFFF) == 0 && version != 0) {
    reader.fail(FormatErrorKind::unsupported, "a big-endian GGUF file");
  }
  if (version != 2 && version != 3) {
    reader.fail(FormatErrorKind::unsupported,
                "version " + std::to_string(version) + " of GGUF; 2 and 3 are read");
  }
  const auto tensors = reader.number<std::uint64_t>("the number of tensors");
  const auto pairs = reader.number<std::uint64_t>("the number of keys");
  if (tensors > reader.left() / kSmallestTensor || pairs > reader.left() / kSmallestPair) {
    reader.fail(FormatErrorKind::bad_length, std::to_string(tensors) + " tensors and " +
                                                 std::to_string(pairs) +
                                                 " keys do not fit into the file");
  }
  GgufHeader header;
  header.pairs.reserve(static_cast<std::size_t>(pairs));
  for (std::uint64_t i = 0; i < pairs; ++i) header.pairs.push_back(read_pair(reader, file));
  header.tensors.reserve(static_cast<std::size_t>(tensors));
  header.infos.reserve(static_cast<std::size_t>(tensors));
  for (std::uint64_t i = 0; i < tensors; ++i) read_tensor(reader, header);
  check_unique(reader, header.pairs, "the key", [](const GgufPair& pair) { return pair.key; });
  check_unique(reader, header.infos, "the tensor",
               [](const TensorInfo& info) { return std::string_view(info.name); });
  place_tensors(reader, header, file.size());
  return header;
}

}  // namespace kvant::io
