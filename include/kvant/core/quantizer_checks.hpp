#pragma once

/// @file
/// What both quantizers, the compiled one and the one of headers, ask of the memory they write to.

#include <cstdint>
#include <string>

#include "kvant/core/checks.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::detail {

inline void check_shape(const char* who, const AnyMatrix& y, std::int64_t rows, std::int64_t cols) {
  if (y.rows == rows && y.cols == cols) return;
  fail(ErrorCode::shape_mismatch, std::string(who) + ": the result is " + shape_text(rows, cols) +
                                      ", the output has the shape " + shape_text(y.rows, y.cols));
}

/// Memory for codes of x, one a byte.
inline void check_quantize_to(const ConstAnyMatrix& x, const QuantParams& params, AnyMatrix codes) {
  check_float("quantize_to", "x", x);
  check_params(params, x.rows, x.cols);
  if (codes.dtype != params.scheme.dtype) {
    fail(ErrorCode::invalid_argument,
         "quantize_to: the codes' memory is " + std::string(to_string(codes.dtype)) +
             ", the scheme makes " + std::string(to_string(params.scheme.dtype)));
  }
  codes.dtype = DType::uint8;  // one per byte, whatever the type
  check_shape("quantize_to", codes, x.rows, x.cols);
  check_writable("quantize_to", "the codes' memory", codes);
  if (overlap(x, codes)) {
    fail(ErrorCode::invalid_argument, "quantize_to: the codes' memory overlaps x");
  }
}

inline void check_dequantize(std::int64_t rows, std::int64_t cols, const AnyMatrix& y) {
  check_float("dequantize", "y", y);
  check_shape("dequantize", y, rows, cols);
  check_writable("dequantize", "y", y);
}

/// y may be x itself, but not overlap it otherwise.
inline void check_fake_quantize(const ConstAnyMatrix& x, const QuantParams& params,
                                const AnyMatrix& y) {
  check_float("fake_quantize", "x", x);
  check_float("fake_quantize", "y", y);
  check_params(params, x.rows, x.cols);
  check_shape("fake_quantize", y, x.rows, x.cols);
  check_writable("fake_quantize", "y", y);
  const bool in_place = x.data == y.data && x.dtype == y.dtype && x.stride == y.stride;
  if (!in_place && overlap(x, y)) {
    fail(ErrorCode::invalid_argument,
         "fake_quantize: y overlaps x without being x (same type and stride)");
  }
}

}  // namespace kvant::detail
