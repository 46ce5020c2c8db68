#pragma once

// The header of a GGUF file, checked.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/io/gguf.hpp"
#include "kvant/io/tensor.hpp"

namespace kvant::io {

/// Types of values.
enum class GgufValueType : std::uint32_t {
  u8,
  i8,
  u16,
  i16,
  u32,
  i32,
  f32,
  boolean,
  string,
  array,
  u64,
  i64,
  f64,
};

/// Bytes of a value of fixed size; 0 for strings and arrays.
[[nodiscard]] std::uint64_t gguf_value_size(GgufValueType type) noexcept;

/// A key and the bytes of its value: of a string from its first character on, of an array from its
/// element type on.
struct GgufPair {
  std::string_view key;
  GgufValueType type;
  std::span<const std::byte> value;
};

struct GgufHeader {
  std::vector<GgufPair> pairs;
  std::vector<GgufTensor> tensors;
  std::vector<TensorInfo> infos;  ///< of the same tensors
};

/// @throws FormatError
[[nodiscard]] GgufHeader parse_gguf(std::span<const std::byte> file, const std::string& name);

}  // namespace kvant::io
