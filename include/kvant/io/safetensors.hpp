#pragma once

/// @file
/// Reading safetensors files: validate everything once, then hand out views without copying.
///
///     kvant::io::SafeTensors file("model.safetensors");
///     auto w = file.matrix<kvant::float16>("transformer.h.0.mlp.c_fc.weight");
///
/// Every rule of the format is checked before the constructor returns: header length, UTF-8, JSON
/// without duplicate keys, known dtypes, checked shape products, and a data buffer tiled exactly by
/// the tensors. Sharded checkpoints: checkpoint.hpp. Writing: safetensors_writer.hpp.

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
#include "kvant/io/format_error.hpp"
#include "kvant/io/tensor.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::io {

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

/// One file. Copies share the mapping; views stay valid while any copy lives. All const calls may
/// come from several threads at once.
class KVANT_API SafeTensors {
 public:
  /// @throws FormatError for a file that breaks a rule, naming the tensor and the rule;
  ///         Error io where the operating system refuses, or the path is not a regular file
  explicit SafeTensors(const std::filesystem::path& path, LoadMode mode = LoadMode::map);
  /// The same checks on bytes in memory, which must outlive the object; nothing is copied.
  /// @param name stands for the file in messages
  static SafeTensors from_bytes(std::span<const std::byte> bytes, std::string name = "<memory>");

  /// All tensors, in the order of their bytes in the file.
  [[nodiscard]] const std::vector<TensorInfo>& tensors() const noexcept;
  [[nodiscard]] bool contains(std::string_view name) const noexcept;
  /// The tensor, or null.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const noexcept;
  /// The header's "__metadata__"; empty if there is none.
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const noexcept;

  /// @throws Error invalid_argument if there is no such tensor; the message lists close ones
  [[nodiscard]] TensorView tensor(std::string_view name) const;

  /// A tensor as a matrix: two-dimensional as it is, one-dimensional as one row, a scalar as 1x1.
  /// Points into the file where it is aligned for T, else to an aligned copy kept by this object.
  /// @throws Error invalid_argument (no such tensor, another dtype), shape_mismatch (rank above 2),
  ///         out_of_range (a dimension above 2^63-1)
  template <class T>
  [[nodiscard]] MatrixView<const T> matrix(std::string_view name) const {
    static_assert(!std::is_same_v<T, bool>, "BOOL bytes other than 0 and 1 are no C++ bool");
    const detail::TensorMatrix m = matrix_of(name, dtype_of<T>, alignof(T));
    return {static_cast<const T*>(m.data), m.rows, m.cols};
  }

  /// A copy of a tensor's elements, of any rank, in row-major order.
  /// @throws Error invalid_argument (no such tensor, another dtype), out_of_memory
  template <class T>
  [[nodiscard]] std::vector<T> values(std::string_view name) const {
    static_assert(!std::is_same_v<T, bool>, "BOOL bytes other than 0 and 1 are no C++ bool");
    std::vector<T> result(element_count(name, dtype_of<T>));
    copy_elements(name, result.data());
    return result;
  }

  /// Gives back what a tensor holds of this process' memory: its mapped pages (they come back from
  /// the file when touched) and its aligned copy, if one was made: matrix() views of it end here.
  void release(std::string_view name) const;

 private:
  struct State;
  explicit SafeTensors(std::shared_ptr<State> state) : state_(std::move(state)) {}
  [[nodiscard]] detail::TensorMatrix matrix_of(std::string_view name, DType dtype,
                                               std::size_t alignment) const;
  [[nodiscard]] std::size_t element_count(std::string_view name, DType dtype) const;
  void copy_elements(std::string_view name, void* to) const;

  std::shared_ptr<State> state_;
};

}  // namespace kvant::io
