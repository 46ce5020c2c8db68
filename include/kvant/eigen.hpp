#pragma once

/// @file
/// Eigen on one side, MatrixView on the other, nothing copied (target kvant::eigen).
///
///     kvant::as_view(m)    Eigen::Matrix, Map, Ref or Block -> MatrixView
///     kvant::as_eigen(v)   MatrixView or kvant::Matrix      -> Eigen::Map
///
/// Views are row-major, Eigen's default is column-major: a column-major matrix is refused at
/// compile time, because taking it silently as its transpose has cost people days. Where the
/// transpose is what you want (a column-major [in, out] weight is a row-major [out, in] one), say
/// as_transposed_view(m). Vectors of either direction become one row.

#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

#include "kvant/config.hpp"
#include "kvant/error.hpp"
#include "kvant/float16.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant {

namespace detail {

/// Eigen's half types and kvant's are both two bytes of the same format.
template <class T>
struct EigenScalar {
  using kvant_type = T;
  using eigen_type = T;
};
template <>
struct EigenScalar<Eigen::half> {
  using kvant_type = float16;
};
template <>
struct EigenScalar<Eigen::bfloat16> {
  using kvant_type = bfloat16;
};
template <>
struct EigenScalar<float16> {
  using eigen_type = Eigen::half;
};
template <>
struct EigenScalar<bfloat16> {
  using eigen_type = Eigen::bfloat16;
};
static_assert(sizeof(Eigen::half) == sizeof(float16));
static_assert(sizeof(Eigen::bfloat16) == sizeof(bfloat16));

/// const To* from const From*, To* from From*.
template <class To, class From>
using CopyConst = std::conditional_t<std::is_const_v<From>, const To, To>;

template <class M>
concept EigenDense =
    std::is_base_of_v<Eigen::DenseBase<std::remove_cvref_t<M>>, std::remove_cvref_t<M>>;

template <class M>
inline constexpr bool kEigenTemporary =
    !std::is_lvalue_reference_v<M> &&
    std::is_base_of_v<Eigen::PlainObjectBase<std::remove_cvref_t<M>>, std::remove_cvref_t<M>>;

/// The view of an Eigen object's memory; outer x inner is what its storage order makes of it.
template <class M>
auto eigen_view(M& m) {
  using Object = std::remove_const_t<M>;
  static_assert((Object::Flags & Eigen::DirectAccessBit) != 0,
                "kvant: this Eigen expression has no memory of its own; evaluate it first "
                "(.eval() into a row-major matrix)");
  using Element = std::remove_pointer_t<decltype(m.data())>;
  using T = CopyConst<typename EigenScalar<std::remove_const_t<Element>>::kvant_type, Element>;
  if (m.innerStride() != 1 && m.innerSize() > 1) {
    throw Error(ErrorCode::unsupported, "as_view: neighbouring elements are " +
                                            std::to_string(m.innerStride()) +
                                            " apart; a MatrixView needs them side by side");
  }
  return MatrixView<T>(reinterpret_cast<T*>(m.data()), m.outerSize(), m.innerSize(),
                       static_cast<std::ptrdiff_t>(m.outerStride()));
}

}  // namespace detail

/// A view of a row-major Eigen object (Matrix, Array, Map, Ref, Block), or of a vector as one row.
/// @throws Error unsupported where an inner stride is not 1
template <detail::EigenDense M>
auto as_view(M&& m) {
  using Object = std::remove_cvref_t<M>;
  static_assert(!detail::kEigenTemporary<M>,
                "kvant: a view of a temporary Eigen matrix would dangle; give it a name");
  static_assert(Object::IsRowMajor || Object::IsVectorAtCompileTime,
                "kvant: views are row-major and this Eigen matrix is column-major; declare it "
                "Eigen::RowMajor, or say as_transposed_view(m) if the transpose is meant");
  return detail::eigen_view(m);
}

/// A column-major Eigen object [r, c] seen as the row-major matrix [c, r], its transpose.
/// @throws Error unsupported where an inner stride is not 1
template <detail::EigenDense M>
auto as_transposed_view(M&& m) {
  using Object = std::remove_cvref_t<M>;
  static_assert(!detail::kEigenTemporary<M>,
                "kvant: a view of a temporary Eigen matrix would dangle; give it a name");
  static_assert(!Object::IsRowMajor,
                "kvant: this Eigen matrix is row-major; its transpose is not a row-major view");
  return detail::eigen_view(m);
}

/// A row-major Eigen matrix of any size.
template <class T>
using EigenMatrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

/// An Eigen::Map of a view, with its row stride. float16 and bfloat16 become Eigen's.
template <class T>
auto as_eigen(MatrixView<T> view) {
  using Scalar =
      detail::CopyConst<typename detail::EigenScalar<std::remove_const_t<T>>::eigen_type, T>;
  using Plain = detail::CopyConst<EigenMatrix<std::remove_const_t<Scalar>>, T>;
  return Eigen::Map<Plain, Eigen::Unaligned, Eigen::OuterStride<>>(
      reinterpret_cast<Scalar*>(view.data()), view.rows(), view.cols(),
      Eigen::OuterStride<>(view.stride()));
}

/// An owning matrix as an Eigen::Map; nothing is copied.
template <class T>
auto as_eigen(Matrix<T>& matrix) {
  return as_eigen(matrix.view());
}
/// The same, read-only.
template <class T>
auto as_eigen(const Matrix<T>& matrix) {
  return as_eigen(matrix.view());
}

}  // namespace kvant
