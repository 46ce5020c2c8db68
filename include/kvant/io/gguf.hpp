#pragma once

/// @file
/// Reading GGUF files, the format of llama.cpp: metadata of typed values, and tensors in floating
/// point or in blocks of quantized values.
///
///     kvant::io::Gguf file("model.gguf");
///     auto layers = file.integer("llama.block_count");
///     file.dequantize("blk.0.ffn_up.weight", 0, 16, first_rows.data());
///
/// Every rule of the container is checked before the constructor returns: counts and lengths
/// against the bytes that are left, unique keys and names, known types, checked shape products, and
/// a data section that the tensors fill in order.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/format_error.hpp"
#include "kvant/io/tensor_file.hpp"

namespace kvant::io {

/// A type of tensors: blocks of `elements` values in `bytes` bytes.
struct GgufType {
  std::uint32_t id;
  std::string_view name;  ///< "Q4_0"
  std::uint32_t elements;
  std::uint32_t bytes;
  /// The real values of one block as float32, bit for bit as ggml computes them; null for
  /// integers.
  void (*dequantize)(const std::byte* block, float* out) noexcept;
  std::optional<DType> dtype;  ///< of types that are plain elements
  /// One block from as many finite values, of which none but F32's and BF16's may be larger than
  /// kLargestGgufValue in magnitude. The bits of ggml's reference for all but the K types, which
  /// are searched for. Null for types that are not written.
  void (*quantize)(const float* values, std::byte* block) noexcept = nullptr;
};

/// What the half-precision scales of blocks can stand for.
inline constexpr float kLargestGgufValue = 65504.0f;

/// All types, ascending by id.
[[nodiscard]] KVANT_API std::span<const GgufType> gguf_types() noexcept;
/// By its name in upper or lower case; null: there is none.
[[nodiscard]] KVANT_API const GgufType* find_gguf_type(std::string_view name) noexcept;

/// A name that ends with ".gguf", in upper or lower case.
[[nodiscard]] KVANT_API bool has_gguf_name(const std::filesystem::path& path);
/// A regular file that begins as GGUF does, whatever its name. Never throws.
[[nodiscard]] KVANT_API bool starts_as_gguf(const std::filesystem::path& path) noexcept;
/// A file that is meant to be GGUF: by its name, or by its first four bytes. Never throws; false
/// for folders and for what cannot be read.
[[nodiscard]] KVANT_API bool is_gguf_file(const std::filesystem::path& path) noexcept;

/// A tensor as GGUF describes it, its shape in row-major order (the last dimension is contiguous).
struct GgufTensor {
  const GgufType* type;
  std::vector<std::uint64_t> shape;
};

/// One file. As a TensorFile its block-quantized tensors are U8 with rows of bytes.
class KVANT_API Gguf : public TensorFile {
 public:
  /// @throws FormatError naming the key or the tensor and the rule; Error io
  explicit Gguf(const std::filesystem::path& path, LoadMode mode = LoadMode::map);
  /// The same checks on bytes in memory, which must outlive the object; nothing is copied.
  static Gguf from_bytes(std::span<const std::byte> bytes, std::string name = "<memory>");

  // Values by key; nothing where there is no such key or its value is of another kind.
  [[nodiscard]] bool has(std::string_view key) const noexcept;
  [[nodiscard]] std::optional<std::int64_t> integer(std::string_view key) const noexcept;
  [[nodiscard]] std::optional<double> number(std::string_view key) const noexcept;
  [[nodiscard]] std::optional<bool> boolean(std::string_view key) const noexcept;
  [[nodiscard]] std::optional<std::string_view> text(std::string_view key) const noexcept;
  /// An array of strings; views into the file.
  [[nodiscard]] std::optional<std::vector<std::string_view>> texts(std::string_view key) const;
  /// An array of integers, or of floats.
  [[nodiscard]] std::optional<std::vector<double>> numbers(std::string_view key) const;
  /// All keys, in the order of the file.
  [[nodiscard]] std::vector<std::string_view> keys() const;

  /// The tensor as GGUF describes it, or null.
  [[nodiscard]] const GgufTensor* find_gguf(std::string_view name) const noexcept;
  /// Rows [first, first + count) of a tensor as float32, row after row into out.
  /// @throws Error invalid_argument (no such tensor), out_of_range, unsupported (a type that is not
  ///         read)
  void dequantize(std::string_view name, std::int64_t first, std::int64_t count, float* out) const;

 private:
  /// A key, the type of its value, and the value's bytes (of an array: from its element type on).
  struct Entry {
    std::string_view key;
    std::uint32_t type;
    std::span<const std::byte> value;
  };
  Gguf(std::span<const std::byte> bytes, std::string name);
  void index();
  [[nodiscard]] const Entry* find_entry(std::string_view key) const noexcept;

  std::vector<Entry> entries_;
  std::vector<std::size_t> by_key_;
  std::vector<GgufTensor> gguf_tensors_;  ///< in the order of tensors()
};

}  // namespace kvant::io
