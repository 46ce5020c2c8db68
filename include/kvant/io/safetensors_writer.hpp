#pragma once

/// @file
/// Writing safetensors files, laid out as the reference writer does: wide dtypes first, then by
/// name, header padded to 8 bytes, so that every tensor is aligned for its type.
///
///     kvant::io::SafeTensorsWriter writer;
///     writer.add("logits", kvant::MatrixView<const float>(data, rows, cols));
///     writer.write("out.safetensors");
///
/// Tensors that are not all there at once: safetensors_stream.hpp.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/error.hpp"
#include "kvant/io/safetensors_stream.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::io {

/// Collects tensors, then writes them. The data is referred to, not copied: it must live until
/// write() or to_bytes() returns. The layout is planned from names, dtypes and shapes alone, and
/// the data then passes through once, in the order of the file.
class KVANT_API SafeTensorsWriter {
 public:
  /// @throws Error invalid_argument: the name "__metadata__" (such a file cannot be read), a name
  ///         that is there already or is not UTF-8; unsupported: a dtype that the format has no
  ///         name for; shape_mismatch: data of another size than shape and dtype say
  void add(std::string name, DType dtype, std::vector<std::uint64_t> shape,
           std::span<const std::byte> data);

  /// A contiguous matrix as [rows, cols].
  /// @throws Error invalid_argument also for a view with a stride
  template <class T>
  void add(std::string name, MatrixView<const T> matrix) {
    if (!matrix.contiguous()) {
      throw Error(ErrorCode::invalid_argument, "SafeTensorsWriter: a view with a row stride of " +
                                                   std::to_string(matrix.stride()) +
                                                   " elements cannot be written as it is");
    }
    add(std::move(name), dtype_of<T>,
        {static_cast<std::uint64_t>(matrix.rows()), static_cast<std::uint64_t>(matrix.cols())},
        std::as_bytes(std::span(matrix.data(), static_cast<std::size_t>(matrix.size()))));
  }

  /// A list of values, one-dimensional: scales, ids, ...
  template <class T>
  void add(std::string name, std::span<const T> values) {
    add(std::move(name), dtype_of<T>, {static_cast<std::uint64_t>(values.size())},
        std::as_bytes(values));
  }
  /// The same; the vector must live until write() too, so a temporary is not taken.
  template <class T>
  void add(std::string name, const std::vector<T>& values) {
    add(std::move(name), std::span<const T>(values));
  }
  template <class T>
  void add(std::string name, const std::vector<T>&& values) = delete;

  /// Sets an entry of "__metadata__", written in the order of the keys.
  /// @throws Error invalid_argument for text that is not UTF-8
  void set_metadata(const std::string& key, const std::string& value);

  /// Writes the file under a temporary name beside it and renames it when it is complete.
  /// @throws Error io; out_of_range for a header above the format's 100,000,000 bytes
  void write(const std::filesystem::path& path) const;
  /// The same bytes in memory.
  [[nodiscard]] std::vector<std::byte> to_bytes() const;

 private:
  std::vector<TensorSpec> specs_;
  std::vector<std::span<const std::byte>> data_;
  std::set<std::string> names_;
  std::map<std::string, std::string> metadata_;
};

}  // namespace kvant::io
