#include "ops/quantize/quant_blocks.hpp"

#include <algorithm>

#include "kvant/float_element.hpp"

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

template <class F>
void QuantizerKernels::for_each_piece(const Window& w, F&& f) const noexcept {
  if (row_wise_) return f(w, w.row, 1, 0);
  const std::int64_t row_end = w.row + w.rows;
  const std::int64_t col_end = w.col + w.cols;
  for (std::int64_t row = w.row; row < row_end;) {
    const std::int64_t next_row =
        std::min(row_end, (row / params_.block_rows() + 1) * params_.block_rows());
    if (params_.block_cols() == 1) {
      f(Window{row, next_row - row, w.col, w.cols}, params_.index(row, w.col), 0, 1);
    } else {
      for (std::int64_t col = w.col; col < col_end;) {
        const std::int64_t next_col =
            whole_cols_
                ? col_end
                : std::min(col_end, (col / params_.block_cols() + 1) * params_.block_cols());
        f(Window{row, next_row - row, col, next_col - col}, params_.index(row, col), 0, 0);
        col = next_col;
      }
    }
    row = next_row;
  }
}

void QuantizerKernels::quantize(const Window& w, const void* x, DType x_dtype,
                                std::ptrdiff_t x_stride, void* codes,
                                std::ptrdiff_t code_stride) const noexcept {
  if (!params_.is_plain()) {
    for (std::int64_t r = 0; r < w.rows; ++r) {
      params_.quantize_row(
          w.row + r, w.col, w.cols,
          [&](std::int64_t c) { return load_element(x, x_dtype, r * x_stride + c); },
          static_cast<std::uint8_t*>(offset(codes, r * code_stride)));
    }
    return;
  }
  for_each_piece(w, [&](const Window& p, std::int64_t at, std::int32_t row_step,
                        std::int32_t col_step) noexcept {
    const std::int64_t row = p.row - w.row;
    const std::int64_t col = p.col - w.col;
    QuantizeArgs args{};
    args.x = {offset(x, (row * x_stride + col) * element_bytes(x_dtype)), x_dtype, p.rows, p.cols,
              x_stride};
    args.order = params_.params().order();
    args.scale = params_.factor() + at;
    args.zero_point = params_.zero() + at;
    args.row_step = row_step;
    args.col_step = col_step;
    args.lowest = static_cast<float>(params_.params().scheme.lowest);
    args.highest = static_cast<float>(params_.params().scheme.highest);
    args.codes = offset(codes, row * code_stride + col);
    args.is_unsigned = params_.is_unsigned();
    args.code_stride = code_stride;
    kernels_.quantize(args);
  });
}

void QuantizerKernels::dequantize(const Window& w, const void* codes, std::ptrdiff_t code_stride,
                                  void* y, DType y_dtype, std::ptrdiff_t y_stride) const noexcept {
  if (!params_.is_plain()) {
    for (std::int64_t r = 0; r < w.rows; ++r) {
      params_.dequantize_row(
          w.row + r, w.col, w.cols,
          static_cast<const std::uint8_t*>(offset(codes, r * code_stride)),
          [&](std::int64_t c, float value) { store_element(y, y_dtype, r * y_stride + c, value); });
    }
    return;
  }
  for_each_piece(w, [&](const Window& p, std::int64_t at, std::int32_t row_step,
                        std::int32_t col_step) noexcept {
    const std::int64_t row = p.row - w.row;
    const std::int64_t col = p.col - w.col;
    DequantizeArgs args{};
    args.codes = offset(codes, row * code_stride + col);
    args.is_unsigned = params_.is_unsigned();
    args.rows = p.rows;
    args.cols = p.cols;
    args.code_stride = code_stride;
    args.scale = params_.params().scale.data() + at;
    args.zero_point = params_.zero() + at;
    args.row_step = row_step;
    args.col_step = col_step;
    args.y = offset(y, (row * y_stride + col) * element_bytes(y_dtype));
    args.y_dtype = y_dtype;
    args.y_stride = y_stride;
    kernels_.dequantize(args);
  });
}

}  // namespace kvant::detail
