#pragma once

/// @file
/// The linear quantizers of kvant/linear_quantizer.hpp as templates that need no library: the same
/// names, arguments, bits and errors in namespace kvant::core, one element at a time on one thread.
///
///     auto params = kvant::core::choose_params(x, kvant::int8_symmetric, kvant::per_row);
///     auto q      = kvant::core::quantize(x, params);
///     auto back   = kvant::core::dequantize<float>(q);
///     auto error  = kvant::compare(x, back);
///
/// x is a MatrixView, Matrix or std::span of float, float16 or bfloat16, or a ConstAnyMatrix
/// (compare takes matrices: of a span make a MatrixView).

#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/core/block_params.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/observer.hpp"
#include "kvant/core/pack_codes.hpp"
#include "kvant/core/quantizer_checks.hpp"
#include "kvant/core/visit_float.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"
#include "kvant/quantized_matrix.hpp"

namespace kvant::core {

namespace detail {

using kvant::detail::BlockParams;
using kvant::detail::QuantizedMatrixAccess;
using kvant::detail::ScopedFloatEnvironment;

/// One row of codes a byte each, and how they lie in a QuantizedMatrix.
class CodeRow {
 public:
  CodeRow(const QuantParams& params, std::int64_t cols)
      : cols_(cols),
        bits_(describe(params.scheme.dtype).bits),
        is_signed_(describe(params.scheme.dtype).kind == DTypeKind::signed_integer),
        codes_(static_cast<std::size_t>(cols)) {}

  [[nodiscard]] std::uint8_t* data() noexcept { return codes_.data(); }
  /// To and from row r of `bytes`.
  void write(std::uint8_t* bytes, std::int64_t r) const noexcept {
    std::uint8_t* const to = bytes + r * packed_bytes(cols_, bits_);
    if (bits_ == 8) {
      std::copy(codes_.begin(), codes_.end(), to);
    } else {
      kvant::detail::pack_codes(codes_.data(), cols_, bits_, to);
    }
  }
  void read(const std::uint8_t* bytes, std::int64_t r) noexcept {
    const std::uint8_t* const from = bytes + r * packed_bytes(cols_, bits_);
    if (bits_ == 8) {
      std::copy(from, from + cols_, codes_.begin());
    } else {
      kvant::detail::unpack_codes(from, cols_, bits_, is_signed_, codes_.data());
    }
  }

 private:
  std::int64_t cols_;
  int bits_;
  bool is_signed_;
  std::vector<std::uint8_t> codes_;
};

/// Row r of a typed view, as quantize_row and dequantize_row want it.
template <class T>
auto load_from(const MatrixView<T>& x, std::int64_t r) noexcept {
  return [row = x.row_data(r)](std::int64_t c) { return static_cast<float>(row[c]); };
}
template <class T>
auto store_to(const MatrixView<T>& y, std::int64_t r) noexcept {
  return [row = y.row_data(r)](std::int64_t c, float value) { row[c] = static_cast<T>(value); };
}

}  // namespace detail

/// The scale (and zero point) of each block from its smallest and largest value.
/// @throws Error not_finite (unless ignored), unsupported (dtype), invalid_argument
template <FloatMatrix X>
[[nodiscard]] QuantParams choose_params(const X& x, const QuantScheme& scheme,
                                        BlockShape block = per_tensor,
                                        NonFinite non_finite = NonFinite::error) {
  const BlockRange range = core::block_range(x, block, non_finite);
  return params_from_range(range.min, range.max, scheme, block,
                           ConstAnyMatrix(detail::view_of(x)).dtype);
}

/// Codes of x. NaN gives the zero point, infinities saturate.
/// @throws Error as check_params; unsupported (dtype), out_of_memory
template <FloatMatrix X>
[[nodiscard]] QuantizedMatrix quantize(const X& x, QuantParams params) {
  const detail::ScopedFloatEnvironment environment;
  const auto view = detail::view_of(x);
  const ConstAnyMatrix any(view);
  kvant::detail::check_float("quantize", "x", any);
  check_params(params, any.rows, any.cols);
  QuantizedMatrix q = detail::QuantizedMatrixAccess::make(any.rows, any.cols, std::move(params));
  if (q.bytes().empty()) return q;
  const detail::BlockParams blocks(q.params(), any.rows, any.cols);
  detail::CodeRow codes(q.params(), any.cols);
  detail::visit_float(view, [&](const auto& typed) {
    for (std::int64_t r = 0; r < typed.rows(); ++r) {
      blocks.quantize_row(r, 0, typed.cols(), detail::load_from(typed, r), codes.data());
      codes.write(detail::QuantizedMatrixAccess::bytes(q), r);
    }
  });
  return q;
}

/// Codes of x into the caller's memory: `codes` is of the scheme's type, one element a byte (int8,
/// uint8, int4, ..., float8_e5m2), of x's shape. It must not overlap x.
/// @throws Error as quantize; shape_mismatch, invalid_argument (overlap)
template <FloatMatrix X>
void quantize_to(const X& x, const QuantParams& params, AnyMatrix codes) {
  const detail::ScopedFloatEnvironment environment;
  const auto view = detail::view_of(x);
  const ConstAnyMatrix any(view);
  kvant::detail::check_quantize_to(any, params, codes);
  if (any.rows == 0 || any.cols == 0) return;
  const detail::BlockParams blocks(params, any.rows, any.cols);
  detail::visit_float(view, [&](const auto& typed) {
    for (std::int64_t r = 0; r < typed.rows(); ++r) {
      blocks.quantize_row(r, 0, typed.cols(), detail::load_from(typed, r),
                          static_cast<std::uint8_t*>(codes.data) + r * codes.stride);
    }
  });
}

/// The real values into y: a MatrixView, Matrix or std::span of float, float16 or bfloat16, or an
/// AnyMatrix; rounded once from fp32.
/// @throws Error shape_mismatch, unsupported (dtype), invalid_argument
template <FloatOutput Y>
void dequantize(const QuantizedMatrix& q, Y&& y) {
  const detail::ScopedFloatEnvironment environment;
  const auto view = detail::view_of(y);
  kvant::detail::check_dequantize(q.rows(), q.cols(), AnyMatrix(view));
  if (q.bytes().empty()) return;
  const detail::BlockParams blocks(q.params(), q.rows(), q.cols());
  detail::CodeRow codes(q.params(), q.cols());
  detail::visit_float(view, [&](const auto& typed) {
    for (std::int64_t r = 0; r < typed.rows(); ++r) {
      codes.read(q.bytes().data(), r);
      blocks.dequantize_row(r, 0, typed.cols(), codes.data(), detail::store_to(typed, r));
    }
  });
}

/// The real values as a fresh matrix.
template <FloatElement T = float>
[[nodiscard]] Matrix<T> dequantize(const QuantizedMatrix& q) {
  Matrix<T> y(q.rows(), q.cols());
  core::dequantize(q, y);
  return y;
}

/// Codes of the same values under other parameters; equals quantize(dequantize<float>(q), params)
/// without the matrix in between.
/// @throws Error as quantize
[[nodiscard]] inline QuantizedMatrix requantize(const QuantizedMatrix& q, QuantParams params) {
  const detail::ScopedFloatEnvironment environment;
  check_params(params, q.rows(), q.cols());
  QuantizedMatrix result =
      detail::QuantizedMatrixAccess::make(q.rows(), q.cols(), std::move(params));
  if (q.bytes().empty()) return result;
  const detail::BlockParams from(q.params(), q.rows(), q.cols());
  const detail::BlockParams to(result.params(), q.rows(), q.cols());
  detail::CodeRow old_codes(q.params(), q.cols());
  detail::CodeRow codes(result.params(), q.cols());
  std::vector<float> values(static_cast<std::size_t>(q.cols()));
  const MatrixView<float> row(values.data(), 1, q.cols());
  for (std::int64_t r = 0; r < q.rows(); ++r) {
    old_codes.read(q.bytes().data(), r);
    from.dequantize_row(r, 0, q.cols(), old_codes.data(), detail::store_to(row, 0));
    to.quantize_row(r, 0, q.cols(), detail::load_from(row, 0), codes.data());
    codes.write(detail::QuantizedMatrixAccess::bytes(result), r);
  }
  return result;
}

/// What quantizing does to x: dequantize(quantize(x, params)) into y, which may be x itself (same
/// type and stride) but not overlap it otherwise.
/// @throws Error as quantize and dequantize
template <FloatMatrix X, FloatOutput Y>
void fake_quantize(const X& x, const QuantParams& params, Y&& y) {
  const detail::ScopedFloatEnvironment environment;
  const auto from = detail::view_of(x);
  const auto to = detail::view_of(y);
  const ConstAnyMatrix any(from);
  kvant::detail::check_fake_quantize(any, params, AnyMatrix(to));
  if (any.rows == 0 || any.cols == 0) return;
  const detail::BlockParams blocks(params, any.rows, any.cols);
  std::vector<std::uint8_t> codes(static_cast<std::size_t>(any.cols));
  detail::visit_float(from, [&](const auto& in) {
    detail::visit_float(to, [&](const auto& out) {
      for (std::int64_t r = 0; r < in.rows(); ++r) {
        blocks.quantize_row(r, 0, in.cols(), detail::load_from(in, r), codes.data());
        blocks.dequantize_row(r, 0, in.cols(), codes.data(), detail::store_to(out, r));
      }
    });
  });
}

/// The same as a fresh matrix.
template <FloatElement T = float, FloatMatrix X>
[[nodiscard]] Matrix<T> fake_quantize(const X& x, const QuantParams& params) {
  const ConstAnyMatrix any(detail::view_of(x));
  Matrix<T> y(any.rows < 0 ? 0 : any.rows, any.cols < 0 ? 0 : any.cols);
  core::fake_quantize(x, params, y);
  return y;
}

}  // namespace kvant::core
