#pragma once

/// @file
/// Matrix<T>: an owning, contiguous row-major matrix; what functions return that make one.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/error.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

namespace detail {

/// A size that goes with what it is the size of: 0 in a moved-from object.
class MovedSize {
 public:
  constexpr MovedSize(std::int64_t value = 0) noexcept : value_(value) {}  // NOLINT: it is one
  constexpr MovedSize(const MovedSize&) noexcept = default;
  constexpr MovedSize(MovedSize&& other) noexcept : value_(std::exchange(other.value_, 0)) {}
  constexpr MovedSize& operator=(const MovedSize&) noexcept = default;
  constexpr MovedSize& operator=(MovedSize&& other) noexcept {
    value_ = std::exchange(other.value_, 0);
    return *this;
  }
  ~MovedSize() = default;
  constexpr operator std::int64_t() const noexcept { return value_; }  // NOLINT

 private:
  std::int64_t value_;
};

}  // namespace detail

/// An owning, contiguous, row-major matrix. A moved-from one is [0, 0].
template <class T>
class Matrix {
 public:
  Matrix() = default;
  /// Zeros. @throws Error invalid_argument for a negative shape, out_of_range
  Matrix(std::int64_t rows, std::int64_t cols)
      : values_(checked_size(rows, cols)), rows_(rows), cols_(cols) {}
  /// Takes the values, row by row. @throws Error shape_mismatch
  Matrix(std::int64_t rows, std::int64_t cols, std::vector<T> values)
      : values_(std::move(values)), rows_(rows), cols_(cols) {
    if (values_.size() != checked_size(rows, cols)) {
      throw Error(ErrorCode::shape_mismatch, "Matrix: " + std::to_string(values_.size()) +
                                                 " values for [" + std::to_string(rows) + ", " +
                                                 std::to_string(cols) + "]");
    }
  }

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] T* data() noexcept { return values_.data(); }
  [[nodiscard]] const T* data() const noexcept { return values_.data(); }
  [[nodiscard]] const std::vector<T>& values() const noexcept { return values_; }

  T& operator()(std::int64_t r, std::int64_t c) noexcept { return data()[r * cols_ + c]; }
  const T& operator()(std::int64_t r, std::int64_t c) const noexcept {
    return data()[r * cols_ + c];
  }

  [[nodiscard]] MatrixView<T> view() noexcept { return {data(), rows_, cols_}; }
  [[nodiscard]] MatrixView<const T> view() const noexcept { return {data(), rows_, cols_}; }
  operator MatrixView<T>() noexcept { return view(); }              // NOLINT: implicit on purpose
  operator MatrixView<const T>() const noexcept { return view(); }  // NOLINT
  operator ConstAnyMatrix() const noexcept { return view(); }       // NOLINT
  operator AnyMatrix() noexcept { return view(); }                  // NOLINT

 private:
  static std::size_t checked_size(std::int64_t rows, std::int64_t cols) {
    if (rows < 0 || cols < 0) {
      throw Error(ErrorCode::invalid_argument, "Matrix: the shape [" + std::to_string(rows) + ", " +
                                                   std::to_string(cols) + "] is negative");
    }
    constexpr std::int64_t kMost = std::int64_t{1} << 60;  // elements; a product that wraps is none
    if (cols > 0 && rows > kMost / cols) {
      throw Error(ErrorCode::out_of_range, "Matrix: [" + std::to_string(rows) + ", " +
                                               std::to_string(cols) +
                                               "] does not fit an address space");
    }
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(cols);
  }

  std::vector<T> values_;
  detail::MovedSize rows_;
  detail::MovedSize cols_;
};

}  // namespace kvant
