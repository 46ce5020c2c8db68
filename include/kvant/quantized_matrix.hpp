#pragma once

/// @file
/// QuantizedMatrix: codes with the parameters that made them.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/core/block_params.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/dtype.hpp"
#include "kvant/int4.hpp"
#include "kvant/matrix.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"

namespace kvant {

namespace detail {
struct QuantizedMatrixAccess;
}

/// Codes with the parameters that made them. int8, uint8 and the 8-bit floats take a byte each;
/// int4, uint4, int2 and uint2 are packed two or four to a byte, the first in the low bits, every
/// row starting at a byte (int4.hpp). A moved-from one is [0, 0].
class QuantizedMatrix {
 public:
  QuantizedMatrix() = default;
  /// From codes that are there already, packed as above.
  /// @throws Error shape_mismatch (bytes, parameters), invalid_argument (a code outside the range)
  QuantizedMatrix(std::int64_t rows, std::int64_t cols, std::vector<std::uint8_t> bytes,
                  QuantParams params)
      : bytes_(std::move(bytes)), rows_(rows), cols_(cols), params_(std::move(params)) {
    check_codes();
  }

  [[nodiscard]] std::int64_t rows() const noexcept { return rows_; }
  [[nodiscard]] std::int64_t cols() const noexcept { return cols_; }
  [[nodiscard]] DType dtype() const noexcept { return params_.scheme.dtype; }
  [[nodiscard]] const QuantParams& params() const noexcept { return params_; }
  [[nodiscard]] BlockShape block() const noexcept { return params_.block; }
  /// The codes as stored.
  [[nodiscard]] const std::vector<std::uint8_t>& bytes() const noexcept { return bytes_; }
  /// Bytes between two rows.
  [[nodiscard]] std::int64_t row_bytes() const noexcept { return packed_bytes(cols_, bits()); }
  /// Bytes of codes and parameters.
  [[nodiscard]] std::size_t memory_footprint() const noexcept {
    return bytes_.size() + params_.bytes();
  }

  /// One code (of the 8-bit floats their bits); r and c are not checked.
  [[nodiscard]] std::int32_t code(std::int64_t r, std::int64_t c) const noexcept {
    return packed_get(bytes_.data() + r * row_bytes(), c, bits(), is_signed());
  }
  /// The codes of a byte each in place; T is the storage type that dtype() says: std::int8_t,
  /// std::uint8_t, float8_e4m3fn, float8_e5m2.
  /// @throws Error unsupported where they are of another type
  template <class T>
  [[nodiscard]] MatrixView<const T> codes() const {
    check_codes_are(dtype_of<T>);
    return {reinterpret_cast<const T*>(bytes_.data()), rows_, cols_};
  }
  /// All codes, one each, row by row.
  [[nodiscard]] std::vector<std::int32_t> unpack() const {
    std::vector<std::int32_t> codes;
    if (bytes_.empty()) return codes;
    codes.reserve(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_));
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < cols_; ++c) codes.push_back(code(r, c));
    }
    return codes;
  }
  /// All codes, one a byte, into the caller's memory: `codes` is int8 for signed schemes, uint8 for
  /// all others, of this shape.
  /// @throws Error shape_mismatch, unsupported (dtype)
  void unpack_to(AnyMatrix codes) const {
    constexpr const char* kWho = "QuantizedMatrix::unpack_to";
    const DType wanted = is_signed() ? DType::int8 : DType::uint8;
    if (codes.dtype != wanted) {
      detail::fail(ErrorCode::unsupported,
                   std::string(kWho) + ": " + std::string(to_string(dtype())) +
                       " codes unpack to " + std::string(to_string(wanted)) + ", not to " +
                       std::string(to_string(codes.dtype)));
    }
    detail::check_writable(kWho, "codes", codes);
    detail::check_result_shape(kWho, codes, rows_, cols_);
    if (bytes_.empty()) return;
    for (std::int64_t r = 0; r < rows_; ++r) {
      auto* const to = static_cast<std::uint8_t*>(codes.data) + r * codes.stride;
      for (std::int64_t c = 0; c < cols_; ++c) to[c] = static_cast<std::uint8_t>(code(r, c));
    }
  }

 private:
  friend struct detail::QuantizedMatrixAccess;

  [[nodiscard]] int bits() const noexcept { return describe(params_.scheme.dtype).bits; }
  [[nodiscard]] bool is_signed() const noexcept {
    return describe(params_.scheme.dtype).kind == DTypeKind::signed_integer;
  }

  void check_codes_are(DType type) const {
    if (type == dtype() && bits() == 8) return;
    detail::fail(ErrorCode::unsupported,
                 "QuantizedMatrix: the codes are " + std::string(to_string(dtype())) + ", not " +
                     std::string(to_string(type)) + "; unpack() gives them whatever their type");
  }

  static std::size_t code_bytes(std::int64_t rows, std::int64_t cols, const QuantParams& params) {
    const std::int64_t row_bytes = packed_bytes(cols, describe(params.scheme.dtype).bits);
    if (row_bytes > 0 && rows > INT64_MAX / 16 / row_bytes) {
      detail::fail(ErrorCode::out_of_range, "the codes of a matrix " +
                                                detail::shape_text(rows, cols) +
                                                " do not fit an address space");
    }
    return static_cast<std::size_t>(rows) * static_cast<std::size_t>(row_bytes);
  }

  void check_codes() const {
    if (rows_ < 0 || cols_ < 0) {
      detail::fail(
          ErrorCode::invalid_argument,
          "QuantizedMatrix: the shape " + detail::shape_text(rows_, cols_) + " is negative");
    }
    check_params(params_, rows_, cols_);
    const std::size_t wanted = code_bytes(rows_, cols_, params_);
    if (bytes_.size() != wanted) {
      detail::fail(ErrorCode::shape_mismatch,
                   "QuantizedMatrix: " + detail::shape_text(rows_, cols_) + " " +
                       std::string(to_string(dtype())) + " codes take " + std::to_string(wanted) +
                       " bytes, not " + std::to_string(bytes_.size()));
    }
    if (bytes_.empty()) return;
    for (std::int64_t r = 0; r < rows_; ++r) {
      for (std::int64_t c = 0; c < cols_; ++c) {
        if (!is_in_range(code(r, c))) fail_code(r, c);
      }
    }
  }

  [[nodiscard]] bool is_in_range(std::int32_t code) const noexcept {
    const QuantScheme& scheme = params_.scheme;
    if (describe(dtype()).kind != DTypeKind::floating) {
      return code >= scheme.lowest && code <= scheme.highest;
    }
    const float value = detail::float8_value(dtype(), static_cast<std::uint8_t>(code));
    return value >= static_cast<float>(scheme.lowest) &&  // a NaN is not
           value <= static_cast<float>(scheme.highest);
  }

  [[noreturn]] void fail_code(std::int64_t r, std::int64_t c) const {
    detail::fail(ErrorCode::invalid_argument,
                 "QuantizedMatrix: the code " + std::to_string(code(r, c)) + " at " +
                     detail::shape_text(r, c) + " is outside the range " +
                     std::to_string(params_.scheme.lowest) + ".." +
                     std::to_string(params_.scheme.highest));
  }

  std::vector<std::uint8_t> bytes_;
  detail::MovedSize rows_;
  detail::MovedSize cols_;
  QuantParams params_;
};

namespace detail {

/// For the quantizers, which fill the codes in.
struct QuantizedMatrixAccess {
  /// Zero codes. The parameters are checked. @throws Error out_of_memory, out_of_range
  static QuantizedMatrix make(std::int64_t rows, std::int64_t cols, QuantParams params) {
    QuantizedMatrix q;
    const std::size_t bytes = QuantizedMatrix::code_bytes(rows, cols, params);
    try {
      q.bytes_.resize(bytes);
    } catch (const std::exception&) {  // bad_alloc, length_error
      fail(ErrorCode::out_of_memory, "no memory for " + std::to_string(bytes) + " bytes of codes");
    }
    q.rows_ = rows;
    q.cols_ = cols;
    q.params_ = std::move(params);
    return q;
  }
  static std::uint8_t* bytes(QuantizedMatrix& q) noexcept { return q.bytes_.data(); }
};

}  // namespace detail

}  // namespace kvant
