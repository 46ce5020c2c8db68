#pragma once

// The window functions under the linear quantizers: quantize or dequantize a rectangle of a matrix
// whose blocks have parameters of their own, by the kernels where they can and by the scalar rules
// where they cannot (a float shift, arithmetic that rounds to a half type).

#include <cstdint>
#include <vector>

#include "kvant/kernel_table.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::detail {

/// Rows [row, row + rows), columns [col, col + cols) of the matrix.
struct Window {
  std::int64_t row, rows, col, cols;
};

/// Parameters of a whole matrix in the form that kernels read.
class BlockParams {
 public:
  /// Checked parameters of a non-empty matrix; they must outlive this object.
  BlockParams(const KernelTable& kernels, const QuantParams& params, std::int64_t rows,
              std::int64_t cols);

  /// x points at the window's first element; one code per byte to `codes`, `code_stride` bytes
  /// between rows.
  void quantize(const Window& w, const void* x, DType x_dtype, std::ptrdiff_t x_stride, void* codes,
                std::ptrdiff_t code_stride) const noexcept;
  /// The inverse; `codes` and y point at the window's first element.
  void dequantize(const Window& w, const void* codes, std::ptrdiff_t code_stride, void* y,
                  DType y_dtype, std::ptrdiff_t y_stride) const noexcept;

 private:
  // Calls f(piece, parameter index, col_step) for pieces that one kernel call can do.
  template <class F>
  void for_each_piece(const Window& w, F&& f) const noexcept;
  [[nodiscard]] std::int64_t index(std::int64_t row, std::int64_t col) const noexcept {
    return row / block_rows_ * grid_cols_ + col / block_cols_;
  }
  void quantize_scalar(const Window& w, const void* x, DType x_dtype, std::ptrdiff_t x_stride,
                       void* codes, std::ptrdiff_t code_stride) const noexcept;
  void dequantize_scalar(const Window& w, const void* codes, std::ptrdiff_t code_stride, void* y,
                         DType y_dtype, std::ptrdiff_t y_stride) const noexcept;

  const KernelTable& kernels_;
  const QuantParams& params_;
  std::vector<float> factor_;  // inv_scale, or scale for RoundOrder::divide
  std::vector<float> zero_;
  std::int64_t block_rows_;
  std::int64_t block_cols_;
  std::int64_t grid_cols_;
  bool row_wise_;  // one parameter per row
  bool whole_cols_;
  bool unsigned_;
  bool scalar_;
};

/// Packs `count` codes of `bits` (4 or 2) bits, one per byte, into packed bytes; spare bits are 0.
void pack_codes(const std::uint8_t* codes, std::int64_t count, int bits,
                std::uint8_t* packed) noexcept;
/// The inverse, sign-extended where the type is signed.
void unpack_codes(const std::uint8_t* packed, std::int64_t count, int bits, bool is_signed,
                  std::uint8_t* codes) noexcept;

}  // namespace kvant::detail
