#pragma once

/// @file
/// AlignedArray<T>: a fixed-size owning array on a 64-byte boundary, for data that kernels stream.

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>
#include <type_traits>
#include <utility>

#include "kvant/config.hpp"

namespace kvant {

namespace detail {
/// 64-byte aligned; large blocks on 2 MiB, and with a word to the system that huge pages would do
/// them good. @throws std::bad_alloc
[[nodiscard]] KVANT_API void* allocate_aligned(std::size_t bytes);
KVANT_API void free_aligned(void* data, std::size_t bytes) noexcept;
}  // namespace detail

/// A fixed-size owning array of trivial elements on a 64-byte boundary. Move-only.
template <class T>
class AlignedArray {
  static_assert(std::is_trivially_copyable_v<T> && std::is_trivially_default_constructible_v<T>);

 public:
  AlignedArray() noexcept = default;
  /// `size` elements, uninitialised. @throws std::bad_alloc
  explicit AlignedArray(std::size_t size)
      : data_(size == 0 ? nullptr : static_cast<T*>(detail::allocate_aligned(bytes_for(size)))),
        size_(size) {}
  AlignedArray(std::size_t size, T value) : AlignedArray(size) {
    for (std::size_t i = 0; i < size; ++i) data_[i] = value;
  }
  ~AlignedArray() { detail::free_aligned(data_, size_ * sizeof(T)); }
  AlignedArray(AlignedArray&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  AlignedArray& operator=(AlignedArray&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  AlignedArray(const AlignedArray&) = delete;
  AlignedArray& operator=(const AlignedArray&) = delete;

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }
  [[nodiscard]] std::size_t bytes() const noexcept { return size_ * sizeof(T); }
  T& operator[](std::size_t i) noexcept { return data_[i]; }
  const T& operator[](std::size_t i) const noexcept { return data_[i]; }
  operator std::span<const T>() const noexcept { return {data_, size_}; }

 private:
  static std::size_t bytes_for(std::size_t size) {
    if (size > SIZE_MAX / sizeof(T)) throw std::bad_array_new_length();
    return size * sizeof(T);
  }

  T* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace kvant
