#include "kvant/linear_quantizer.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

#include "kvant/core/float_environment.hpp"
#include "kvant/core/pack_codes.hpp"
#include "kvant/core/quantizer_checks.hpp"
#include "ops/quantize/quant_blocks.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

namespace {

using detail::QuantizedMatrixAccess;
using detail::QuantizerKernels;
using detail::Window;

int code_bits(const QuantParams& params) noexcept {
  return describe(params.scheme.dtype).bits;
}

bool is_signed(const QuantParams& params) noexcept {
  return describe(params.scheme.dtype).kind == DTypeKind::signed_integer;
}

// Columns that are worked on at a time where codes pass through a buffer: on the stack, in the
// cache, and a multiple of what shares a byte.
constexpr std::int64_t kStrip = 1024;

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
  QuantizedMatrix q = QuantizedMatrixAccess::make(x.rows, x.cols, std::move(params));
  if (q.bytes().empty()) return q;
  std::uint8_t* const bytes = QuantizedMatrixAccess::bytes(q);
  const QuantizerKernels blocks(context.kernels(), q.params(), x.rows, x.cols);
  const CodeStrips strips{q.params(), q.row_bytes()};
  if (strips.bits == 8) {
    for_each_window(context, x.rows, x.cols, [&](const Window& w) {
      blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride, bytes + strips.byte_of(w),
                      strips.row_bytes);
    });
    return q;
  }
  for_each_strip(context, x.rows, x.cols, [&](const Window& w) {
    std::array<std::uint8_t, kStrip> codes;
    blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride, codes.data(), kStrip);
    strips.write(bytes, w, codes.data());
  });
  return q;
}

void quantize_to(Context& context, ConstAnyMatrix x, const QuantParams& params, AnyMatrix codes) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("quantize_to", context);
  detail::check_quantize_to(x, params, codes);
  if (x.rows == 0 || x.cols == 0) return;
  codes.dtype = DType::uint8;  // one per byte, whatever the type
  const QuantizerKernels blocks(context.kernels(), params, x.rows, x.cols);
  for_each_window(context, x.rows, x.cols, [&](const Window& w) {
    blocks.quantize(w, element(x, w.row, w.col), x.dtype, x.stride, element(codes, w.row, w.col),
                    codes.stride);
  });
}

void dequantize(Context& context, const QuantizedMatrix& q, AnyMatrix y) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("dequantize", context);
  detail::check_dequantize(q.rows(), q.cols(), y);
  if (q.bytes().empty()) return;
  const QuantizerKernels blocks(context.kernels(), q.params(), q.rows(), q.cols());
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
  QuantizedMatrix result = QuantizedMatrixAccess::make(q.rows(), q.cols(), std::move(params));
  if (q.bytes().empty()) return result;
  std::uint8_t* const bytes = QuantizedMatrixAccess::bytes(result);
  const QuantizerKernels from(context.kernels(), q.params(), q.rows(), q.cols());
  const QuantizerKernels to(context.kernels(), result.params(), q.rows(), q.cols());
  const CodeStrips in{q.params(), q.row_bytes()};
  const CodeStrips out{result.params(), result.row_bytes()};
  for_each_strip(context, q.rows(), q.cols(), [&](const Window& w) {
    std::array<std::uint8_t, kStrip> codes;
    std::array<float, kStrip> values;
    const void* old_codes = in.read(q.bytes().data(), w, codes.data());
    from.dequantize(w, old_codes, kStrip, values.data(), DType::float32, kStrip);
    to.quantize(w, values.data(), DType::float32, kStrip, codes.data(), kStrip);
    out.write(bytes, w, codes.data());
  });
  return result;
}

void fake_quantize(Context& context, ConstAnyMatrix x, const QuantParams& params, AnyMatrix y) {
  const detail::ScopedFloatEnvironment environment;
  detail::check_host("fake_quantize", context);
  detail::check_fake_quantize(x, params, y);
  if (x.rows == 0 || x.cols == 0) return;
  const QuantizerKernels blocks(context.kernels(), params, x.rows, x.cols);
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
