#pragma once

/// @file
/// MatrixView<T>: a non-owning, row-major matrix with a row stride. It is a pointer and three
/// numbers; copying it is free, and it never checks or owns what it points to.

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

/// A non-owning, row-major matrix: pointer, rows, columns, row stride in elements.
template <class T>
class MatrixView {
 public:
  using value_type = std::remove_const_t<T>;

  constexpr MatrixView() noexcept = default;

  /// rows x cols elements; row r starts at data + r * stride. A stride below cols (0 to repeat one
  /// row, negative to walk upwards) is allowed for reading; library calls reject it for writing.
  constexpr MatrixView(T* data, std::int64_t rows, std::int64_t cols,
                       std::ptrdiff_t stride) noexcept
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  constexpr MatrixView(T* data, std::int64_t rows, std::int64_t cols) noexcept
      : MatrixView(data, rows, cols, static_cast<std::ptrdiff_t>(cols)) {}

  /// One row.
  constexpr explicit(false) MatrixView(std::span<T> row) noexcept
      : MatrixView(row.data(), 1, static_cast<std::int64_t>(row.size())) {}

  /// T -> const T.
  template <class U>
  requires(std::is_const_v<T>&& std::is_same_v<U, value_type>) constexpr MatrixView(
      const MatrixView<U>& other) noexcept
      : MatrixView(other.data(), other.rows(), other.cols(), other.stride()) {}

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] constexpr std::int64_t cols() const noexcept { return cols_; }
  /// Elements between the starts of two rows.
  [[nodiscard]] constexpr std::ptrdiff_t stride() const noexcept { return stride_; }
  [[nodiscard]] constexpr std::int64_t size() const noexcept { return rows_ * cols_; }
  [[nodiscard]] constexpr bool empty() const noexcept { return rows_ == 0 || cols_ == 0; }
  [[nodiscard]] constexpr bool contiguous() const noexcept {
    return stride_ == cols_ || rows_ <= 1;
  }

  [[nodiscard]] constexpr T* row_data(std::int64_t r) const noexcept {
    return data_ + static_cast<std::ptrdiff_t>(r) * stride_;
  }
  [[nodiscard]] constexpr std::span<T> row(std::int64_t r) const noexcept {
    return {row_data(r), static_cast<std::size_t>(cols_)};
  }
  constexpr T& operator()(std::int64_t r, std::int64_t c) const noexcept { return row_data(r)[c]; }

  /// Rows [first, first + count) of the same matrix.
  [[nodiscard]] constexpr MatrixView rows_from(std::int64_t first,
                                               std::int64_t count) const noexcept {
    return {row_data(first), count, cols_, stride_};
  }

 private:
  T* data_ = nullptr;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::ptrdiff_t stride_ = 0;
};

/// A matrix whose element type is known at run time: what the compiled middle of the library takes,
/// so that its bodies stay out of the headers. Every MatrixView<const T> converts to it.
struct ConstAnyMatrix {
  const void* data = nullptr;
  DType dtype = DType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::ptrdiff_t stride = 0;  ///< in elements

  constexpr ConstAnyMatrix() noexcept = default;
  constexpr ConstAnyMatrix(const void* data_, DType dtype_, std::int64_t rows_, std::int64_t cols_,
                           std::ptrdiff_t stride_) noexcept
      : data(data_), dtype(dtype_), rows(rows_), cols(cols_), stride(stride_) {}
  template <class T>
  constexpr ConstAnyMatrix(const MatrixView<T>& view) noexcept
      : ConstAnyMatrix(view.data(), dtype_of<T>, view.rows(), view.cols(), view.stride()) {}
};

/// The writable counterpart.
struct AnyMatrix {
  void* data = nullptr;
  DType dtype = DType::float32;
  std::int64_t rows = 0;
  std::int64_t cols = 0;
  std::ptrdiff_t stride = 0;

  constexpr AnyMatrix() noexcept = default;
  constexpr AnyMatrix(void* data_, DType dtype_, std::int64_t rows_, std::int64_t cols_,
                      std::ptrdiff_t stride_) noexcept
      : data(data_), dtype(dtype_), rows(rows_), cols(cols_), stride(stride_) {}
  template <class T>
  requires(!std::is_const_v<T>) constexpr AnyMatrix(const MatrixView<T>& view) noexcept
      : AnyMatrix(view.data(), dtype_of<T>, view.rows(), view.cols(), view.stride()) {}
  constexpr operator ConstAnyMatrix() const noexcept { return {data, dtype, rows, cols, stride}; }
};

}  // namespace kvant
