#pragma once

/// @file
/// Matrices in whatever form a caller has them, as typed views: what the templates of kvant::core
/// take for x and y.

#include <concepts>
#include <cstddef>
#include <span>
#include <type_traits>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"
#include "kvant/float16.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::core {

/// float, float16 or bfloat16: what is quantized, and what codes come back as.
template <class T>
concept FloatElement =
    std::same_as<T, float> || std::same_as<T, float16> || std::same_as<T, bfloat16>;

namespace detail {

template <class T>
MatrixView<T> view_of(const MatrixView<T>& x) noexcept {
  return x;
}
template <class T>
MatrixView<const T> view_of(const Matrix<T>& x) noexcept {
  return x.view();
}
template <class T>
MatrixView<T> view_of(Matrix<T>& x) noexcept {
  return x.view();
}
template <class T, std::size_t N>
MatrixView<T> view_of(const std::span<T, N>& row) noexcept {
  return MatrixView<T>(std::span<T>(row));
}
inline ConstAnyMatrix view_of(const ConstAnyMatrix& x) noexcept {
  return x;
}
inline AnyMatrix view_of(const AnyMatrix& x) noexcept {
  return x;
}

template <class View>
inline constexpr bool kIsFloat =
    std::same_as<View, ConstAnyMatrix> || std::same_as<View, AnyMatrix>;
template <class X>
inline constexpr bool kOwns = false;
template <class T>
inline constexpr bool kOwns<Matrix<T>> = true;
template <class T>
inline constexpr bool kIsFloat<MatrixView<T>> = FloatElement<std::remove_const_t<T>>;

}  // namespace detail

/// A matrix of floats: a MatrixView, a Matrix, a std::span (one row), or a ConstAnyMatrix or
/// AnyMatrix, whose type is looked at at run time.
template <class X>
concept FloatMatrix = requires(X& x) {
  requires detail::kIsFloat<decltype(detail::view_of(x))>;
};

/// The same where it can be written to, and is not gone after the call.
template <class Y>
concept FloatOutput = FloatMatrix<Y> && requires(std::remove_reference_t<Y>& y) {
  AnyMatrix(detail::view_of(y));
} &&(std::is_lvalue_reference_v<Y> || !detail::kOwns<std::remove_cvref_t<Y>>);

namespace detail {

/// Calls f with a typed view: x itself, or, where its type is known at run time only, as float,
/// float16 or bfloat16 (the caller has checked that it is one of them).
template <class T, class F>
void visit_float(const MatrixView<T>& x, F&& f) {
  f(x);
}
template <class F>
void visit_float(const ConstAnyMatrix& x, F&& f) {
  const auto as = [&]<class T>(const T* data) {
    f(MatrixView<const T>(data, x.rows, x.cols, x.stride));
  };
  switch (x.dtype) {
    case DType::float16: return as(static_cast<const float16*>(x.data));
    case DType::bfloat16: return as(static_cast<const bfloat16*>(x.data));
    default: return as(static_cast<const float*>(x.data));
  }
}
template <class F>
void visit_float(const AnyMatrix& x, F&& f) {
  const auto as = [&]<class T>(T* data) { f(MatrixView<T>(data, x.rows, x.cols, x.stride)); };
  switch (x.dtype) {
    case DType::float16: return as(static_cast<float16*>(x.data));
    case DType::bfloat16: return as(static_cast<bfloat16*>(x.data));
    default: return as(static_cast<float*>(x.data));
  }
}

}  // namespace detail

}  // namespace kvant::core
