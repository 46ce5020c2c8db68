#pragma once

// The description of a 4-bit weight of bitsandbytes: a JSON text in a U8 tensor beside it.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kvant/dtype.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::io {

struct QuantState {
  WeightFormat format = WeightFormat::nf4;
  std::int64_t blocksize = 64;   ///< consecutive elements of the flattened weight per absmax
  DType dtype = DType::float32;  ///< of the weight before it was quantized
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  bool nested = false;  ///< absmax are 8-bit codes themselves, in blocks of nested_blocksize
  std::int64_t nested_blocksize = 256;
  float nested_offset = 0;

  [[nodiscard]] std::uint64_t elements() const noexcept {
    return static_cast<std::uint64_t>(outputs) * static_cast<std::uint64_t>(inputs);
  }
  [[nodiscard]] std::uint64_t packed_bytes() const noexcept { return (elements() + 1) / 2; }
  [[nodiscard]] std::uint64_t blocks() const noexcept {
    const auto size = static_cast<std::uint64_t>(blocksize);
    return (elements() + size - 1) / size;
  }
  [[nodiscard]] std::uint64_t nested_blocks() const noexcept {
    const auto size = static_cast<std::uint64_t>(nested_blocksize);
    return (blocks() + size - 1) / size;
  }
};

/// @param where names the tensor, for messages
/// @throws FormatError structure, json, ...
[[nodiscard]] QuantState parse_state(std::span<const std::byte> text, const std::string& where);

/// The text as Python's json.dumps writes it.
[[nodiscard]] std::string state_text(const QuantState& state);
/// The length of the longest text of a weight with this description, whatever its nested_offset.
[[nodiscard]] std::size_t longest_state_text(const QuantState& state);

}  // namespace kvant::io
