#pragma once

/// @file
/// Matrix views that are checked against the memory they lie in, for callers who have sizes from
/// elsewhere. (MatrixView itself never checks.)

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/error.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

/// rows x cols elements of data; row r starts at element r * stride.
/// @throws Error invalid_argument (a negative size or stride, rows that overlap), out_of_range
/// (data
///         is too short)
template <class T>
[[nodiscard]] MatrixView<T> checked_view(std::span<T> data, std::int64_t rows, std::int64_t cols,
                                         std::ptrdiff_t stride) {
  if (rows < 0 || cols < 0 || stride < cols) {
    detail::fail(ErrorCode::invalid_argument,
                 "checked_view: " + detail::shape_text(rows, cols) + " with row stride " +
                     std::to_string(stride) +
                     "; sizes must not be negative, and the stride not less than a row");
  }
  const auto size = static_cast<std::int64_t>(data.size());
  // The last row ends where it ends: (rows - 1) * stride + cols, without a product that wraps.
  if (rows > 0 && cols > 0 && (cols > size || (rows - 1) > (size - cols) / stride)) {
    detail::fail(ErrorCode::out_of_range, "checked_view: " + detail::shape_text(rows, cols) +
                                              " with row stride " + std::to_string(stride) +
                                              " does not fit " + std::to_string(data.size()) +
                                              " elements");
  }
  return {data.data(), rows, cols, stride};
}
/// The same without gaps between the rows.
template <class T>
[[nodiscard]] MatrixView<T> checked_view(std::span<T> data, std::int64_t rows, std::int64_t cols) {
  return checked_view(data, rows, cols, static_cast<std::ptrdiff_t>(cols));
}
/// The same from a pointer to `size` elements.
template <class T>
[[nodiscard]] MatrixView<T> checked_view(T* data, std::int64_t rows, std::int64_t cols,
                                         std::size_t size) {
  return checked_view(std::span<T>(data, size), rows, cols);
}

}  // namespace kvant
