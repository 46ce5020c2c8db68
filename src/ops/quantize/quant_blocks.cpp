#include "ops/quantize/quant_blocks.hpp"

#include <algorithm>
#include <cmath>

#include "kvant/float_element.hpp"
#include "kvant/int4.hpp"
#include "kvant/quantize.hpp"

namespace kvant::detail {

namespace {

std::int64_t element_bytes(DType dtype) noexcept {
  return describe(dtype).bits / 8;
}

const void* offset(const void* data, std::int64_t bytes) noexcept {
  return static_cast<const std::byte*>(data) + bytes;
}
void* offset(void* data, std::int64_t bytes) noexcept {
  return static_cast<std::byte*>(data) + bytes;
}

}  // namespace

BlockParams::BlockParams(const KernelTable& kernels, const QuantParams& params, std::int64_t rows,
                         std::int64_t cols)
    : kernels_(kernels),
      params_(params),
      block_rows_(params.block.rows == 0 ? rows : std::min(params.block.rows, rows)),
      block_cols_(params.block.cols == 0 ? cols : std::min(params.block.cols, cols)),
      grid_cols_(params.block.count_cols(cols)),
      row_wise_(block_rows_ == 1 && block_cols_ == cols),
      whole_cols_(block_cols_ == cols),
      unsigned_(describe(params.scheme.dtype).kind == DTypeKind::unsigned_integer),
      scalar_(!params.shift.empty() || params.arithmetic != DType::float32) {
  if (params.order() == RoundOrder::divide) {
    factor_ = params.scale;
  } else if (!params.inv_scale.empty()) {
    factor_ = params.inv_scale;
  } else {
    factor_.reserve(params.scale.size());
    for (const float scale : params.scale) factor_.push_back(1 / scale);
  }
  zero_.assign(params.scale.size(), 0.0f);
  for (std::size_t i = 0; i < params.zero_point.size(); ++i) {
    zero_[i] = static_cast<float>(params.zero_point[i]);
  }
}

template <class F>
void BlockParams::for_each_piece(const Window& w, F&& f) const noexcept {
  if (row_wise_) return f(w, w.row, 1, 0);
  const std::int64_t row_end = w.row + w.rows;
  const std::int64_t col_end = w.col + w.cols;
  for (std::int64_t row = w.row; row < row_end;) {
    const std::int64_t next_row = std::min(row_end, (row / block_rows_ + 1) * block_rows_);
    if (block_cols_ == 1) {
      f(Window{row, next_row - row, w.col, w.cols}, index(row, w.col), 0, 1);
    } else {
      for (std::int64_t col = w.col; col < col_end;) {
        const std::int64_t next_col =
            whole_cols_ ? col_end : std::min(col_end, (col / block_cols_ + 1) * block_cols_);
        f(Window{row, next_row - row, col, next_col - col}, index(row, col), 0, 0);
        col = next_col;
      }
    }
    row = next_row;
  }
}

void BlockParams::quantize(const Window& w, const void* x, DType x_dtype, std::ptrdiff_t x_stride,
                           void* codes, std::ptrdiff_t code_stride) const noexcept {
  if (scalar_) return quantize_scalar(w, x, x_dtype, x_stride, codes, code_stride);
  for_each_piece(w, [&](const Window& p, std::int64_t at, std::int32_t row_step,
                        std::int32_t col_step) noexcept {
    const std::int64_t row = p.row - w.row;
    const std::int64_t col = p.col - w.col;
    QuantizeArgs args{};
    args.x = {offset(x, (row * x_stride + col) * element_bytes(x_dtype)), x_dtype, p.rows, p.cols,
              x_stride};
    args.order = params_.order();
    args.scale = factor_.data() + at;
    args.zero_point = zero_.data() + at;
    args.row_step = row_step;
    args.col_step = col_step;
    args.lowest = static_cast<float>(params_.scheme.lowest);
    args.highest = static_cast<float>(params_.scheme.highest);
    args.codes = offset(codes, row * code_stride + col);
    args.is_unsigned = unsigned_;
    args.code_stride = code_stride;
    kernels_.quantize(args);
  });
}

void BlockParams::dequantize(const Window& w, const void* codes, std::ptrdiff_t code_stride,
                             void* y, DType y_dtype, std::ptrdiff_t y_stride) const noexcept {
  if (scalar_) return dequantize_scalar(w, codes, code_stride, y, y_dtype, y_stride);
  for_each_piece(w, [&](const Window& p, std::int64_t at, std::int32_t row_step,
                        std::int32_t col_step) noexcept {
    const std::int64_t row = p.row - w.row;
    const std::int64_t col = p.col - w.col;
    DequantizeArgs args{};
    args.codes = offset(codes, row * code_stride + col);
    args.is_unsigned = unsigned_;
    args.rows = p.rows;
    args.cols = p.cols;
    args.code_stride = code_stride;
    args.scale = params_.scale.data() + at;
    args.zero_point = zero_.data() + at;
    args.row_step = row_step;
    args.col_step = col_step;
    args.y = offset(y, (row * y_stride + col) * element_bytes(y_dtype));
    args.y_dtype = y_dtype;
    args.y_stride = y_stride;
    kernels_.dequantize(args);
  });
}

// quanto's formulas: q = clamp(rne((x + shift) / scale)) and q = clamp(rne(x / scale) + zero), with
// every operation rounded to the arithmetic type. A scale of 0 is a constant block.
void BlockParams::quantize_scalar(const Window& w, const void* x, DType x_dtype,
                                  std::ptrdiff_t x_stride, void* codes,
                                  std::ptrdiff_t code_stride) const noexcept {
  const DType type = params_.arithmetic;
  const bool divide = params_.order() == RoundOrder::divide;
  for (std::int64_t r = 0; r < w.rows; ++r) {
    auto* row = static_cast<std::uint8_t*>(offset(codes, r * code_stride));
    for (std::int64_t c = 0; c < w.cols; ++c) {
      const auto at = static_cast<std::size_t>(index(w.row + r, w.col + c));
      float value = round_to(type, load_element(x, x_dtype, r * x_stride + c));
      if (!params_.shift.empty()) value = round_to(type, value + params_.shift[at]);
      float code = 0;
      if (std::isnan(value)) {
        // The code of 0, as everywhere: with a shift that is shift / scale.
        value = params_.shift.empty() ? 0.0f : params_.shift[at];
      }
      if (params_.scale[at] != 0) {
        code = round_to(type, divide ? value / factor_[at] : value * factor_[at]);
        code = round_half_even(code) + zero_[at];
      }
      code = std::clamp(code, static_cast<float>(params_.scheme.lowest),
                        static_cast<float>(params_.scheme.highest));
      row[c] = static_cast<std::uint8_t>(static_cast<std::int32_t>(code));
    }
  }
}

void BlockParams::dequantize_scalar(const Window& w, const void* codes, std::ptrdiff_t code_stride,
                                    void* y, DType y_dtype,
                                    std::ptrdiff_t y_stride) const noexcept {
  const DType type = params_.arithmetic;
  for (std::int64_t r = 0; r < w.rows; ++r) {
    const auto* row = static_cast<const std::uint8_t*>(offset(codes, r * code_stride));
    for (std::int64_t c = 0; c < w.cols; ++c) {
      const auto at = static_cast<std::size_t>(index(w.row + r, w.col + c));
      const auto code = static_cast<float>(
          unsigned_ ? static_cast<std::int32_t>(row[c])
                    : static_cast<std::int32_t>(static_cast<std::int8_t>(row[c])));
      float value = round_to(type, (code - zero_[at]) * params_.scale[at]);
      if (!params_.shift.empty()) value = round_to(type, value - params_.shift[at]);
      store_element(y, y_dtype, r * y_stride + c, value);
    }
  }
}

namespace {

// With the width known the compiler turns these loops into shifts of whole vectors.
template <int kBits>
void pack_bits(const std::uint8_t* codes, std::int64_t count, std::uint8_t* packed) noexcept {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1u;
  const std::int64_t whole = count / kPerByte;
  for (std::int64_t i = 0; i < whole; ++i) {
    unsigned byte = 0;
    for (int j = 0; j < kPerByte; ++j) byte |= (codes[i * kPerByte + j] & kMask) << (j * kBits);
    packed[i] = static_cast<std::uint8_t>(byte);
  }
  if (whole * kPerByte == count) return;
  packed[whole] = 0;
  for (std::int64_t i = whole * kPerByte; i < count; ++i) packed_set(packed, i, kBits, codes[i]);
}

template <int kBits, bool kSigned>
void unpack_bits(const std::uint8_t* packed, std::int64_t count, std::uint8_t* codes) noexcept {
  constexpr int kPerByte = 8 / kBits;
  constexpr unsigned kMask = (1u << kBits) - 1u;
  constexpr unsigned kSign = kSigned ? 1u << (kBits - 1) : 0u;
  const std::int64_t whole = count / kPerByte;
  for (std::int64_t i = 0; i < whole; ++i) {
    for (int j = 0; j < kPerByte; ++j) {
      const unsigned field = (packed[i] >> (j * kBits)) & kMask;
      codes[i * kPerByte + j] = static_cast<std::uint8_t>((field ^ kSign) - kSign);
    }
  }
  for (std::int64_t i = whole * kPerByte; i < count; ++i) {
    codes[i] = static_cast<std::uint8_t>(packed_get(packed, i, kBits, kSigned));
  }
}

}  // namespace

void pack_codes(const std::uint8_t* codes, std::int64_t count, int bits,
                std::uint8_t* packed) noexcept {
  if (bits == 4) return pack_bits<4>(codes, count, packed);
  pack_bits<2>(codes, count, packed);
}

void unpack_codes(const std::uint8_t* packed, std::int64_t count, int bits, bool is_signed,
                  std::uint8_t* codes) noexcept {
  if (bits == 4 && is_signed) return unpack_bits<4, true>(packed, count, codes);
  if (bits == 4) return unpack_bits<4, false>(packed, count, codes);
  if (is_signed) return unpack_bits<2, true>(packed, count, codes);
  unpack_bits<2, false>(packed, count, codes);
}

}  // namespace kvant::detail
