#pragma once

// The window functions under the linear quantizers: quantize or dequantize a rectangle of a matrix
// whose blocks have parameters of their own, by the kernels where they can and by the scalar rules
// where they cannot (a float shift, arithmetic that rounds to a half type).

#include <cstdint>
#include <memory>
#include <utility>

#include "kvant/core/block_params.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::detail {

/// Rows [row, row + rows), columns [col, col + cols) of the matrix.
struct Window {
  std::int64_t row, rows, col, cols;
};

/// The kernels of a set under the parameters of a whole matrix.
class QuantizerKernels {
 public:
  /// Checked parameters of a non-empty matrix; they must outlive this object.
  QuantizerKernels(const KernelTable& kernels, const QuantParams& params, std::int64_t rows,
                   std::int64_t cols)
      : QuantizerKernels(kernels, std::make_unique<const BlockParams>(params, rows, cols), cols) {}
  /// The same, made before: nothing is allocated.
  QuantizerKernels(const KernelTable& kernels, const BlockParams& params, std::int64_t cols)
      : kernels_(kernels),
        params_(params),
        row_wise_(params_.block_rows() == 1 && params_.block_cols() == cols),
        whole_cols_(params_.block_cols() == cols) {}

  /// x points at the window's first element; one code per byte to `codes`, `code_stride` bytes
  /// between rows.
  void quantize(const Window& w, const void* x, DType x_dtype, std::ptrdiff_t x_stride, void* codes,
                std::ptrdiff_t code_stride) const noexcept;
  /// The inverse; `codes` and y point at the window's first element.
  void dequantize(const Window& w, const void* codes, std::ptrdiff_t code_stride, void* y,
                  DType y_dtype, std::ptrdiff_t y_stride) const noexcept;

 private:
  QuantizerKernels(const KernelTable& kernels, std::unique_ptr<const BlockParams> params,
                   std::int64_t cols)
      : QuantizerKernels(kernels, *params, cols) {
    owned_ = std::move(params);
  }
  // Calls f(piece, parameter index, row_step, col_step) for pieces that one kernel call can do.
  template <class F>
  void for_each_piece(const Window& w, F&& f) const noexcept;

  const KernelTable& kernels_;
  std::unique_ptr<const BlockParams> owned_;
  const BlockParams& params_;
  bool row_wise_;  // one parameter per row
  bool whole_cols_;
};

}  // namespace kvant::detail
