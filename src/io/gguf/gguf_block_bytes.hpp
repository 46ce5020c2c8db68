#pragma once

// Fields of a block, little-endian and unaligned.

#include <cstddef>
#include <cstdint>

#include "io/file/byte_order.hpp"
#include "kvant/float16.hpp"

namespace kvant::io {

class BlockBytes {
 public:
  explicit BlockBytes(const std::byte* block) noexcept : block_(block) {}

  [[nodiscard]] int u8(int at) const noexcept { return std::to_integer<int>(block_[at]); }
  [[nodiscard]] int s8(int at) const noexcept { return load<std::int8_t>(at); }
  [[nodiscard]] std::uint32_t u16(int at) const noexcept { return load<std::uint16_t>(at); }
  [[nodiscard]] std::uint32_t u32(int at) const noexcept { return load<std::uint32_t>(at); }
  [[nodiscard]] float half(int at) const noexcept {
    return static_cast<float>(float16::from_bits(load<std::uint16_t>(at)));
  }
  [[nodiscard]] float f32(int at) const noexcept { return load<float>(at); }
  /// Half a byte: the low one where `high` is 0.
  [[nodiscard]] int nibble(int at, int high) const noexcept { return (u8(at) >> (4 * high)) & 15; }

  template <class T>
  [[nodiscard]] T load(int at) const noexcept {
    return load_little<T>(block_ + at);
  }

 private:
  const std::byte* block_;
};

}  // namespace kvant::io
