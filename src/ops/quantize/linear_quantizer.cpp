#include "kvant/linear_quantizer.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <utility>

#include "kvant/int4.hpp"
#include "ops/quantize/quant_blocks.hpp"
#include "ops/support/float_environment.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

namespace {

using detail::BlockParams;
using detail::Window;

// Columns that are worked on at a time where codes pass through a buffer: on the stack, in the
// cache, and a multiple of what shares a byte.
constexpr std::int64_t kStrip = 1024;

int code_bits(const QuantParams& params) noexcept {
  return describe(params.scheme.dtype).bits;
}

bool is_signed(const QuantParams& params) noexcept {
  return describe(params.scheme.dtype).kind == DTypeKind::signed_integer;
}

const std::byte* element(const ConstAnyMatrix& m, std::int64_t row, std::int64_t col) noexcept {
  return static_cast<const std::byte*>(m.data) +
         (row * m.stride + col) * (describe(m.dtype).bits / 8);
}
std::byte* element(const AnyMatrix& m, std::int64_t row, std::int64_t col) noexcept {
  return static_cast<std::byte*>(m.data) + (row * m.stride + col) * (describe(m.dtype).bits / 8);
}

// Splits a matrix over the threads, by rows, or by strips of columns where there are few rows.
template <class F>
void for_each_window(Context& context, std::int64_t rows, std::int64_t cols, F&& f) {
  const std::int64_t operations = rows * cols;
  if (rows >= 2 * context.executor().concurrency() || cols <= kStrip) {
    detail::parallel(context, rows, operations, [&](std::int64_t begin, std::int64_t end) {
      f(Window{begin, end - begin, 0, cols});
    });
    return;
  }
  detail::parallel(context, (cols - 1) / kStrip + 1, operations,
                   [&](std::int64_t begin, std::int64_t end) {
                     const std::int64_t col = begin * kStrip;
                     f(Window{0, rows, col, std::min(cols, end * kStrip) - col});
                   });
}

// The same, in strips of one row that fit a buffer.
template <class F>
void for_each_strip(Context& context, std::int64_t rows, std::int64_t cols, F&& f) {
  for_each_window(context, rows, cols, [&](const Window& w) {
    for (std::int64_t row = w.row; row < w.row + w.rows; ++row) {
      for (std::int64_t col = w.col; col < w.col + w.cols; col += kStrip) {
        f(Window{row, 1, col, std::min(kStrip, w.col + w.cols - col)});
      }
    }
  });
}

void check_shape(const char* who, const AnyMatrix& y, std::int64_t rows, std::int64_t cols) {
  if (y.rows == rows && y.cols == cols) return;
  detail::fail(ErrorCode::shape_mismatch,
               std::string(who) + ": the result is " + detail::shape_text(rows, cols) +
                   ", the output has the shape " + detail::shape_text(y.rows, y.cols));
}

std::size_t code_bytes(std::int64_t rows, std::int64_t cols, const QuantParams& params) {
  const std::int64_t row_bytes = packed_bytes(cols, code_bits(params));
  if (row_bytes > 0 && rows > INT64_MAX / 16 / row_bytes) {
    detail::fail(
        ErrorCode::out_of_range,
        "the codes of a matrix " + detail::shape_text(rows, cols) + " do not fit an address space");
  }
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(row_bytes);
}

std::vector<std::uint8_t> allocate_codes(std::int64_t rows, std::int64_t cols,
                                         const QuantParams& params) {
  const std::size_t bytes = code_bytes(rows, cols, params);
  try {
    return std::vector<std::uint8_t>(bytes);
  } catch (const std::exception&) {  // bad_alloc, length_error
    detail::fail(ErrorCode::out_of_memory,
                 "no memory for " + std::to_string(bytes) + " bytes of codes");
  }
}

// Reads and writes strips of a QuantizedMatrix, one code per byte.
struct CodeStrips {
  const QuantParams& params;
  std::int64_t row_bytes;
  int bits = code_bits(params);

  [[nodiscard]] std::int64_t byte_of(const Window& w) const noexcept {
    return w.row * row_bytes + w.col * bits / 8;
  }
  // The strip's codes: in place, or unpacked into the buffer.
  const void* read(const std::uint8_t* bytes, const Window& w,
                   std::uint8_t* buffer) const noexcept {
    if (bits == 8) return bytes + byte_of(w);
    detail::unpack_codes(bytes + byte_of(w), w.cols, bits, is_signed(params), buffer);
    return buffer;
  }
  void write(std::uint8_t* bytes, const Window& w, const std::uint8_t* codes) const noexcept {
    if (bits == 8) {
      std::copy_n(codes, w.cols, bytes + byte_of(w));
    } else {
      detail::pack_codes(codes, w.cols, bits, bytes + byte_of(w));
    }
  }
};

}  // namespace

QuantizedMatrix::QuantizedMatrix(Unchecked, std::int64_t rows, std::int64_t cols,
                                 QuantParams params)
    : bytes_(allocate_codes(rows, cols, params)),
      rows_(rows),
      cols_(cols),
      params_(std::move(params)) {}

QuantizedMatrix::QuantizedMatrix(std::int64_t rows, std::int64_t cols,
                                 std::vector<std::uint8_t> bytes, QuantParams params)
    : bytes_(std::move(bytes)), rows_(rows), cols_(cols), params_(std::move(params)) {
  if (rows < 0 || cols < 0) {
    detail::fail(ErrorCode::invalid_argument,
                 "QuantizedMatrix: the shape " + detail::shape_text(rows, cols) + " is negative");
  }
  check_params(params_, rows, cols);
  if (bytes_.size() != code_bytes(rows, cols, params_)) {
    detail::fail(ErrorCode::shape_mismatch, "QuantizedMatrix: " + detail::shape_text(rows, cols) +
                                                " " + std::string(to_string(dtype())) +
                                                " codes take " +
                                                std::to_string(code_bytes(rows, cols, params_)) +
                                                " bytes, not " + std::to_string(bytes_.size()));
  }
  const QuantScheme& scheme = params_.scheme;
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t c = 0; c < cols; ++c) {
      const std::int32_t q = code(r, c);
      if (q >= scheme.lowest && q <= scheme.highest) continue;
      detail::fail(ErrorCode::invalid_argument,
                   "QuantizedMatrix: the code " + std::to_string(q) + " at " +
                       detail::shape_text(r, c) + " is outside the range " +
                       std::to_string(scheme.lowest) + ".." + std::to_string(scheme.highest));
    }
  }
}

std::int64_t QuantizedMatrix::row_bytes() const noexcept {
  return packed_bytes(cols_, code_bits(params_));
}

std::int32_t QuantizedMatrix::code(std::int64_t r, std::int64_t c) const noexcept {
  return packed_get(bytes_.data() + r * row_bytes(), c, code_bits(params_), is_signed(params_));
}

const void* QuantizedMatrix::codes_of(DType dtype) const {
  if (dtype == params_.scheme.dtype && code_bits(params_) == 8) return bytes_.data();
  detail::fail(ErrorCode::unsupported, "QuantizedMatrix: the codes are " +
                                           std::string(to_string(params_.scheme.dtype)) + ", not " +
                                           std::string(to_string(dtype)) +
                                           "; unpack() gives them whatever their type");
}

std::vector<std::int32_t> QuantizedMatrix::unpack() const {
  std::vector<std::int32_t> codes;
  codes.reserve(static_cast<std::size_t>(rows_) * static_cast<std::size_t>(cols_));
  for (std::int64_t r = 0; r < rows_; ++r) {
    for (std::int64_t c = 0; c < cols_; ++c) codes.push_back(code(r, c));
  }
  return codes;
}

void QuantizedMatrix::unpack_to(AnyMatrix codes) const {
  constexpr const char* kWho = "QuantizedMatrix::unpack_to";
  const bool is_int8 = is_signed(params_);
  const DType wanted = is_int8 ? DType::int8 : DType::uint8;
  if (codes.dtype != wanted) {
    detail::fail(ErrorCode::unsupported, std::string(kWho) + ": " +
                                             std::string(to_string(params_.scheme.dtype)) +
                                             " codes unpack to " + std::string(to_string(wanted)) +
                                             ", not to " + std::string(to_string(codes.dtype)));
  }
  detail::check_writable(kWho, "codes", codes);
  detail::check_result_shape(kWho, codes, rows_, cols_);
  const int bits = code_bits(params_);
  for (std::int64_t r = 0; r < rows_; ++r) {
    const std::uint8_t* from = bytes_.data() + r * row_bytes();
    auto* to = reinterpret_cast<std::uint8_t*>(element(codes, r, 0));
    if (bits == 8) {
      std::copy(from, from + cols_, to);
      continue;
    }
    for (std::int64_t c = 0; c < cols_; ++c) {
      to[c] = static_cast<std::uint8_t>(packed_get(from, c, bits, is_int8));
    }
  }
}

QuantParams choose_params(Context& context, ConstAnyMatrix x, const QuantScheme& scheme,
                          BlockShape block, NonFinite non_finite) {
  const detail::ScopedFloatEnvironment environment;
  const BlockRange range = block_range(context, x, block, non_finite);
  return params_from_range(range.min, range.max, scheme, block, x.dtype);
}

QuantizedMatrix quantize(Context& context, ConstAnyMatrix x, QuantParams params) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("quantize", context);
  detail::check_float("quantize", "x", x);
  check_params(params, x.rows, x.cols);
  QuantizedMatrix q(QuantizedMatrix::Unchecked{}, x.rows, x.cols, std::move(params));
  if (q.bytes_.empty()) return q;
  const BlockParams blocks(context.kernels(), q.params_, x.rows, x.cols);
  const CodeStrips strips{q.params_, q.row_bytes()};
  if (strips.bits == 8) {
    for_each_window(context, x.rows, x.cols, [&](const Window& w) {
      blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride,
                      q.bytes_.data() + strips.byte_of(w), strips.row_bytes);
    });
    return q;
  }
  for_each_strip(context, x.rows, x.cols, [&](const Window& w) {
    std::array<std::uint8_t, kStrip> codes;
    blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride, codes.data(), kStrip);
    strips.write(q.bytes_.data(), w, codes.data());
  });
  return q;
}

void quantize_to(Context& context, ConstAnyMatrix x, const QuantParams& params, AnyMatrix codes) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("quantize_to", context);
  detail::check_float("quantize_to", "x", x);
  check_params(params, x.rows, x.cols);
  if (codes.dtype != params.scheme.dtype) {
    detail::fail(ErrorCode::invalid_argument,
                 "quantize_to: the codes' memory is " + std::string(to_string(codes.dtype)) +
                     ", the scheme makes " + std::string(to_string(params.scheme.dtype)));
  }
  codes.dtype = DType::uint8;  // one per byte, whatever the type
  check_shape("quantize_to", codes, x.rows, x.cols);
  detail::check_writable("quantize_to", "the codes' memory", codes);
  if (detail::overlap(x, codes)) {
    detail::fail(ErrorCode::invalid_argument, "quantize_to: the codes' memory overlaps x");
  }
  if (x.rows == 0 || x.cols == 0) return;
  const BlockParams blocks(context.kernels(), params, x.rows, x.cols);
  for_each_window(context, x.rows, x.cols, [&](const Window& w) {
    blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride, element(codes, w.row, w.col),
                    codes.stride);
  });
}

void dequantize(Context& context, const QuantizedMatrix& q, AnyMatrix y) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("dequantize", context);
  detail::check_float("dequantize", "y", y);
  check_shape("dequantize", y, q.rows(), q.cols());
  detail::check_writable("dequantize", "y", y);
  if (q.bytes().empty()) return;
  const BlockParams blocks(context.kernels(), q.params(), q.rows(), q.cols());
  const CodeStrips strips{q.params(), q.row_bytes()};
  if (strips.bits == 8) {
    for_each_window(context, q.rows(), q.cols(), [&](const Window& w) {
      blocks.dequantize(w, q.bytes().data() + strips.byte_of(w), strips.row_bytes,
                        element(y, w.row, w.col), y.dtype, y.stride);
    });
    return;
  }
  for_each_strip(context, q.rows(), q.cols(), [&](const Window& w) {
    std::array<std::uint8_t, kStrip> buffer;
    const void* codes = strips.read(q.bytes().data(), w, buffer.data());
    blocks.dequantize(w, codes, kStrip, element(y, w.row, w.col), y.dtype, y.stride);
  });
}

QuantizedMatrix requantize(Context& context, const QuantizedMatrix& q, QuantParams params) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("requantize", context);
  check_params(params, q.rows(), q.cols());
  QuantizedMatrix result(QuantizedMatrix::Unchecked{}, q.rows(), q.cols(), std::move(params));
  if (q.bytes().empty()) return result;
  const BlockParams from(context.kernels(), q.params(), q.rows(), q.cols());
  const BlockParams to(context.kernels(), result.params_, q.rows(), q.cols());
  const CodeStrips in{q.params(), q.row_bytes()};
  const CodeStrips out{result.params_, result.row_bytes()};
  for_each_strip(context, q.rows(), q.cols(), [&](const Window& w) {
    std::array<std::uint8_t, kStrip> codes;
    std::array<float, kStrip> values;
    const void* old_codes = in.read(q.bytes().data(), w, codes.data());
    from.dequantize(w, old_codes, kStrip, values.data(), DType::float32, kStrip);
    to.quantize(w, values.data(), DType::float32, kStrip, codes.data(), kStrip);
    out.write(result.bytes_.data(), w, codes.data());
  });
  return result;
}

void fake_quantize(Context& context, ConstAnyMatrix x, const QuantParams& params, AnyMatrix y) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("fake_quantize", context);
  detail::check_float("fake_quantize", "x", x);
  detail::check_float("fake_quantize", "y", y);
  check_params(params, x.rows, x.cols);
  check_shape("fake_quantize", y, x.rows, x.cols);
  detail::check_writable("fake_quantize", "y", y);
  const bool in_place = x.data == y.data && x.dtype == y.dtype && x.stride == y.stride;
  if (!in_place && detail::overlap(x, y)) {
    detail::fail(ErrorCode::invalid_argument,
                 "fake_quantize: y overlaps x without being x (same type and stride)");
  }
  if (x.rows == 0 || x.cols == 0) return;
  const BlockParams blocks(context.kernels(), params, x.rows, x.cols);
  for_each_strip(context, x.rows, x.cols, [&](const Window& w) {
    std::array<std::uint8_t, kStrip> codes;
    blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride, codes.data(), kStrip);
    blocks.dequantize(w, codes.data(), kStrip, element(y, w.row, w.col), y.dtype, y.stride);
  });
}

QuantParams choose_params(ConstAnyMatrix x, const QuantScheme& scheme, BlockShape block,
                          NonFinite non_finite) {
  return choose_params(default_context(), x, scheme, block, non_finite);
}

QuantizedMatrix quantize(ConstAnyMatrix x, QuantParams params) {
  return quantize(default_context(), x, std::move(params));
}

void quantize_to(ConstAnyMatrix x, const QuantParams& params, AnyMatrix codes) {
  quantize_to(default_context(), x, params, codes);
}

void dequantize(const QuantizedMatrix& q, AnyMatrix y) {
  dequantize(default_context(), q, y);
}

QuantizedMatrix requantize(const QuantizedMatrix& q, QuantParams params) {
  return requantize(default_context(), q, std::move(params));
}

void fake_quantize(ConstAnyMatrix x, const QuantParams& params, AnyMatrix y) {
  fake_quantize(default_context(), x, params, y);
}

}  // namespace kvant
