#pragma once

/// @file
/// The checks of the public border. Messages name the caller and carry the values.

#include <algorithm>
#include <cstdint>
#include <string>

#include "kvant/error.hpp"
#include "kvant/matrix_view.hpp"

namespace kvant::detail {

[[noreturn]] inline void fail(ErrorCode code, const std::string& message) {
  throw Error(code, message);
}

inline std::string shape_text(std::int64_t rows, std::int64_t cols) {
  return "[" + std::to_string(rows) + ", " + std::to_string(cols) + "]";
}

inline bool is_kernel_float(DType dtype) noexcept {
  return dtype == DType::float32 || dtype == DType::float16 || dtype == DType::bfloat16;
}

/// A matrix that will be read: shape not negative, data there if it is not empty, sizes that fit.
inline void check_readable(const char* who, const char* what, const ConstAnyMatrix& m) {
  if (m.rows < 0 || m.cols < 0) {
    fail(ErrorCode::invalid_argument,
         std::string(who) + ": " + what + " has the negative shape " + shape_text(m.rows, m.cols));
  }
  if (m.rows > 0 && m.cols > 0 && m.data == nullptr) {
    fail(ErrorCode::invalid_argument,
         std::string(who) + ": " + what + " " + shape_text(m.rows, m.cols) + " has a null pointer");
  }
  // What is made of it must have a size too, whatever its stride: copies of padded rows.
  constexpr std::int64_t kMost = std::int64_t{1} << 50;
  constexpr std::int64_t kPadding = 4096;
  const std::int64_t reach = m.stride < 0 ? -(m.stride + 1) : m.stride;
  if (m.cols > kMost || reach > kMost ||
      (m.rows > 0 && std::max(reach, m.cols) + kPadding > kMost / m.rows)) {
    fail(ErrorCode::out_of_range, std::string(who) + ": " + what + " " +
                                      shape_text(m.rows, m.cols) + " with row stride " +
                                      std::to_string(m.stride) + " does not fit an address space");
  }
}

inline void check_float(const char* who, const char* what, const ConstAnyMatrix& m) {
  if (!is_kernel_float(m.dtype)) {
    fail(ErrorCode::unsupported, std::string(who) + ": " + what + " is " +
                                     std::string(to_string(m.dtype)) +
                                     "; float32, float16 and bfloat16 are possible");
  }
  check_readable(who, what, m);
}

/// A matrix that will be written: also, its rows must not overlap each other.
inline void check_writable(const char* who, const char* what, const ConstAnyMatrix& m) {
  check_readable(who, what, m);
  const std::int64_t reach = m.stride < 0 ? -static_cast<std::int64_t>(m.stride) : m.stride;
  if (m.rows > 1 && reach < m.cols) {
    fail(ErrorCode::invalid_argument, std::string(who) + ": " + what + " " +
                                          shape_text(m.rows, m.cols) + " has row stride " +
                                          std::to_string(m.stride) + ", so its rows overlap");
  }
}

/// The result of a product: [rows, cols].
inline void check_result_shape(const char* who, const ConstAnyMatrix& y, std::int64_t rows,
                               std::int64_t cols) {
  if (y.rows == rows && y.cols == cols) return;
  fail(ErrorCode::shape_mismatch, std::string(who) + ": y is " + shape_text(y.rows, y.cols) + "; " +
                                      shape_text(rows, cols) + " is wanted");
}

/// An optional bias (no rows: none): one row with a number for each output.
inline void check_bias(const char* who, const ConstAnyMatrix& bias, std::int64_t outputs) {
  if (bias.rows == 0) return;
  check_float(who, "bias", bias);
  if (bias.rows != 1 || bias.cols != outputs) {
    fail(ErrorCode::shape_mismatch, std::string(who) + ": bias is " +
                                        shape_text(bias.rows, bias.cols) + " for " +
                                        std::to_string(outputs) + " outputs");
  }
}

inline bool overlap(const ConstAnyMatrix& a, const ConstAnyMatrix& b) noexcept {
  if (a.rows == 0 || a.cols == 0 || b.rows == 0 || b.cols == 0) return false;
  struct Bytes {
    std::uintptr_t begin, end;
  };
  const auto bytes = [](const ConstAnyMatrix& m) {
    const std::int64_t size = describe(m.dtype).bits / 8;
    const std::int64_t last = (m.rows - 1) * m.stride;
    const auto base = reinterpret_cast<std::uintptr_t>(m.data);
    const auto low = static_cast<std::uintptr_t>((last < 0 ? last : 0) * size);
    const auto high = static_cast<std::uintptr_t>(((last > 0 ? last : 0) + m.cols) * size);
    return Bytes{base + low, base + high};
  };
  const Bytes first = bytes(a);
  const Bytes second = bytes(b);
  return first.begin < second.end && second.begin < first.end;
}

}  // namespace kvant::detail
