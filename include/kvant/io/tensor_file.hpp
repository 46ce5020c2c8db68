#pragma once

/// @file
/// TensorFile: a file of named tensors, whatever its format: what is in it, without copying. The
/// formats are derived classes that know how to read a header (safetensors.hpp).

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/io/tensor.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::io {

/// How the bytes of a file come into memory.
enum class LoadMode : std::uint8_t {
  map,   ///< memory-mapped: pages come when touched. The file must not shrink meanwhile (SIGBUS).
  read,  ///< read into memory at once, in one allocation
};

namespace detail {
/// A tensor seen as a matrix of elements that are aligned for their type.
struct TensorMatrix {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
};
}  // namespace detail

/// One file, validated. (Files are little-endian; a big-endian machine has a copy of it in memory,
/// turned round, whatever the mode.) Copies share it; views stay valid while any copy lives. All const calls may
/// come from several threads at once.
class KVANT_API TensorFile {
 public:
  // Copies share the file, and a move is a copy: no object is ever without one.
  TensorFile(const TensorFile&) = default;
  TensorFile& operator=(const TensorFile&) = default;
  ~TensorFile() = default;

  /// All tensors, in the order of their bytes in the file.
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const noexcept;
  [[nodiscard]] bool contains(std::string_view name) const noexcept {
    return find(name) != nullptr;
  }
  /// The tensor, or null.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const noexcept;
  /// What the file says of itself; empty if nothing.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept;
  /// Closes the descriptor of a mapped file: read() copies from the mapping then. For those who
  /// have many files open. Not while another thread reads.
  void close_descriptor() noexcept;
  /// The file's name in messages.
  [[nodiscard]] const std::string& name() const noexcept;

  /// @throws Error invalid_argument if there is no such tensor; the message lists close ones
  [[nodiscard]] TensorView tensor(std::string_view name) const;

  /// A tensor as a matrix: two-dimensional as it is, one-dimensional as one row, a scalar as 1x1.
  /// Points into the file where it is aligned for T, else to an aligned copy kept by this object.
  /// @throws Error invalid_argument (no such tensor, another dtype), shape_mismatch (rank above 2),
  ///         out_of_range (a dimension above 2^63-1)
  template <class T>
  [[nodiscard]] MatrixView<const T> matrix(std::string_view name) const {
    static_assert(!std::is_same_v<T, bool>, "BOOL bytes other than 0 and 1 are not a C++ bool");
    const detail::TensorMatrix m = matrix_of(name, dtype_of<T>, alignof(T));
    return {static_cast<const T*>(m.data), m.rows, m.cols};
  }

  /// A copy of a tensor's elements, of any rank, in row-major order.
  /// @throws Error invalid_argument (no such tensor, another dtype), out_of_memory
  template <class T>
  [[nodiscard]] std::vector<T> values(std::string_view name) const {
    static_assert(!std::is_same_v<T, bool>, "BOOL bytes other than 0 and 1 are not a C++ bool");
    std::vector<T> result(element_count(name, dtype_of<T>));
    copy_elements(name, result.data());
    return result;
  }

  /// Bytes of a tensor of this file, from its byte `begin` on, into the caller's buffer. A mapped
  /// file is read, not touched: the resident set does not grow with what was seen of it.
  /// @throws Error io; also where the file has become shorter
  void read(const TensorInfo& tensor, std::uint64_t begin, std::span<std::byte> into) const;

  /// Gives back what a tensor holds of this process' memory: its mapped pages (they come back from
  /// the file when touched) and its aligned copy, if one was made: matrix() views of it end here.
  void release(std::string_view name) const;

 protected:
  /// What a format finds in a file's bytes.
  struct Contents {
    std::vector<TensorInfo> tensors;  ///< in the order of their bytes, all inside the file
    std::map<std::string, std::string> metadata;
  };
  /// Checks all of a file's bytes against the rules of its format.
  using Parse = Contents (*)(std::span<const std::byte> file, const std::string& name);

  /// @throws what `parse` throws; Error io
  TensorFile(const std::filesystem::path& path, LoadMode mode, Parse parse);
  /// Bytes in memory, which must outlive the object; nothing is copied.
  TensorFile(std::span<const std::byte> bytes, std::string name, Parse parse);
  /// All bytes of the file.
  [[nodiscard]] std::span<const std::byte> file_bytes() const noexcept;

 private:
  struct State;
  [[nodiscard]] detail::TensorMatrix matrix_of(std::string_view name, DType dtype,
                                               std::size_t alignment) const;
  [[nodiscard]] std::size_t element_count(std::string_view name, DType dtype) const;
  void copy_elements(std::string_view name, void* to) const;

  std::shared_ptr<State> state_;
};

/// Opens a file in the format that it has. @throws FormatError, Error io
[[nodiscard]] KVANT_API TensorFile open_tensor_file(const std::filesystem::path& path,
                                                    LoadMode mode = LoadMode::map);

}  // namespace kvant::io
