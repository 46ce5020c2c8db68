#pragma once

/// @file
/// A tensor in a file: what is said of it (name, dtype, shape), where it is, and its bytes.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant::io {

/// A tensor of a file that was read.
struct TensorInfo {
  std::string name;  ///< any UTF-8, NUL included: never a path, never a C string
  DType dtype = DType::uint8;
  std::vector<std::uint64_t> shape;  ///< empty: a scalar. A zero anywhere: no bytes.
  std::uint64_t file_offset = 0;     ///< of the first byte, from the start of the file
  std::uint64_t bytes = 0;
};

/// A tensor with its elements.
struct TensorView {
  const TensorInfo* info = nullptr;  ///< lives as long as the file object
  std::span<const std::byte> data;   ///< at any alignment; in the machine's own order, row-major
};

/// A tensor that will be written: what a header says of it before there are bytes.
struct TensorSpec {
  std::string name;
  DType dtype = DType::uint8;
  std::vector<std::uint64_t> shape = {};
};

/// Bytes of a tensor by its shape and dtype. In the order of the dimensions: [0, 2^63, 4] is fine,
/// [2^63, 4, 0] overflows, as the safetensors reference has it.
/// @param where for messages
/// @throws FormatError overflow, misaligned (not a whole number of bytes)
[[nodiscard]] KVANT_API std::uint64_t tensor_bytes(std::span<const std::uint64_t> shape,
                                                   DType dtype, const std::string& where);

/// Bytes of a tensor. @throws Error invalid_file: an overflow, or not a whole number of bytes
[[nodiscard]] KVANT_API std::uint64_t byte_size(const TensorSpec& tensor);

/// "F32 [2, 3]"; only the first dimensions where there are many.
[[nodiscard]] KVANT_API std::string describe_tensor(DType dtype,
                                                    std::span<const std::uint64_t> shape);

}  // namespace kvant::io
