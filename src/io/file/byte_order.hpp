#pragma once

// Files are little-endian. Numbers of headers and blocks are read and written by these functions;
// tensors of plain elements are turned into the machine's own order when a file is opened
// (tensor_file.cpp), and back when one is written, so that all between sees elements.

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <vector>

#include "kvant/dtype.hpp"

namespace kvant::io {

inline constexpr bool kTurnsBytes = std::endian::native == std::endian::big;

/// Turns the bytes of each element round.
inline void turn_elements(std::span<std::byte> bytes, std::size_t element) noexcept {
  for (std::size_t at = 0; at + element <= bytes.size(); at += element) {
    std::reverse(bytes.begin() + static_cast<std::ptrdiff_t>(at),
                 bytes.begin() + static_cast<std::ptrdiff_t>(at + element));
  }
}

/// Bytes that turn together: those of an element; of a complex one, those of a part.
constexpr std::size_t turning_bytes(DType dtype) noexcept {
  const auto bytes = static_cast<std::size_t>(describe(dtype).bits) / 8;
  return dtype == DType::complex64 ? bytes / 2 : std::max<std::size_t>(bytes, 1);
}

/// Elements as a file has them: the bytes themselves, or, on a big-endian machine, `turned` with a
/// copy.
[[nodiscard]] inline std::span<const std::byte> file_order(std::span<const std::byte> bytes,
                                                           std::size_t turning,
                                                           std::vector<std::byte>& turned) {
  if constexpr (!kTurnsBytes) return bytes;
  turned.assign(bytes.begin(), bytes.end());
  turn_elements(turned, turning);
  return turned;
}

template <class T>
[[nodiscard]] T load_little(const std::byte* from) noexcept {
  std::byte bytes[sizeof(T)];
  std::memcpy(bytes, from, sizeof(T));
  if constexpr (kTurnsBytes) turn_elements(bytes, sizeof(T));
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

template <class T>
void store_little(std::byte* to, T value) noexcept {
  std::memcpy(to, &value, sizeof(T));
  if constexpr (kTurnsBytes) turn_elements({to, sizeof(T)}, sizeof(T));
}

}  // namespace kvant::io
