#pragma once

/// @file
/// Writing GGUF files (version 3): metadata of typed values, then tensors in any of the types that
/// gguf_types() has. The file appears complete or not at all.
///
///     kvant::io::GgufWriter out("model.gguf");
///     out.set("general.architecture", "llama");
///     out.add_tensor("blk.0.ffn_up.weight", *kvant::io::find_gguf_type("q4_0"), {1536, 576});
///     out.begin();
///     out.write("blk.0.ffn_up.weight", 0, blocks);
///     out.commit();

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/atomic_file.hpp"
#include "kvant/io/gguf.hpp"

namespace kvant::io {

/// A value of the metadata; its type in the file follows from its type here (sizes and counts are
/// u32 by convention).
using GgufValue = std::variant<std::uint32_t, std::int32_t, std::uint64_t, float, bool, std::string,
                               std::vector<std::string>, std::vector<std::uint8_t>,
                               std::vector<std::int32_t>, std::vector<float>>;

/// Keys and tensors first, then the bytes, in any order.
class KVANT_API GgufWriter {
 public:
  /// Nothing is written before begin().
  explicit GgufWriter(std::filesystem::path path);
  ~GgufWriter();
  GgufWriter(const GgufWriter&) = delete;
  GgufWriter& operator=(const GgufWriter&) = delete;

  /// @throws Error invalid_argument: an empty key, one of more than 65535 bytes, one that is there
  ///         already, or one that is not UTF-8; after begin()
  void set(const std::string& key, GgufValue value);
  void set(const std::string& key, const char* value) { set(key, GgufValue(std::string(value))); }

  /// @param shape in row-major order: the last dimension is contiguous
  /// @throws Error invalid_argument: a name of more than 63 bytes, one that is there already, more
  ///         than 4 dimensions, rows that are no multiple of the type's block; after begin();
  ///         out_of_range: sizes that overflow
  void add_tensor(const std::string& name, const GgufType& type, std::vector<std::uint64_t> shape);

  /// Makes the file (under a temporary name beside the target), claims its disk space and writes
  /// the header.
  /// @throws Error io, invalid_argument (twice)
  void begin();
  /// Bytes of a tensor from its byte `offset` on. From several threads at once if they write
  /// different bytes.
  /// @throws Error invalid_argument (no such tensor, before begin()), out_of_range (beyond it), io
  void write(std::string_view tensor, std::uint64_t offset, std::span<const std::byte> bytes);
  /// Makes the file durable and gives it its name. That every byte was written is the caller's
  /// care; what was not is zero.
  /// @throws Error io, invalid_argument (before begin())
  void commit(AtomicFile::Existing existing = AtomicFile::Existing::replace);

  /// Bytes of all tensors that were added, without padding.
  [[nodiscard]] std::uint64_t tensor_bytes() const noexcept { return tensor_bytes_; }

 private:
  struct Tensor {
    std::string name;
    const GgufType* type;
    std::vector<std::uint64_t> shape;
    std::uint64_t bytes;
    std::uint64_t offset;  ///< in the data section; in the file after begin()
  };
  void require_begun(bool begun, const char* what) const;

  std::filesystem::path path_;
  std::vector<std::pair<std::string, GgufValue>> values_;
  std::set<std::string, std::less<>> keys_;
  std::vector<Tensor> tensors_;
  std::map<std::string, std::size_t, std::less<>> by_name_;
  std::uint64_t data_bytes_ = 0;  ///< of the data section so far, padded
  std::uint64_t tensor_bytes_ = 0;
  std::optional<AtomicFile> file_;
};

/// Rows of floats as blocks, row after row; every value is checked.
/// @param where for messages: the tensor's name
/// @param out   rows * cols / type.elements * type.bytes bytes
/// @throws Error invalid_argument (a type that is not written, cols no multiple of its block),
///         not_finite (NaN, infinite, or above kLargestGgufValue where the type holds halves)
KVANT_API void quantize_gguf(const GgufType& type, const float* values, std::int64_t rows,
                             std::int64_t cols, std::byte* out, const std::string& where);

}  // namespace kvant::io
