// The first stage where scales were measured beforehand, or where activations are rounded and
// multiplied as floats: no search for absmax or outliers, one pass.

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kvant/context.hpp"
#include "ops/linear/activations.hpp"
#include "ops/linear/row_blocks.hpp"
#include "ops/quantize/quant_blocks.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant::detail {
namespace {

/// Static scales hide NaN and infinities, so who asks for them pays for a scan.
void check_finite_rows(const char* who, Context& context, float* absmax, const ConstAnyMatrix& x) {
  context.kernels().quantize_rows(
      scan_of(rows_of(x, 0, x.rows), std::numeric_limits<float>::infinity(), absmax, nullptr));
  for (std::int64_t m = 0; m < x.rows; ++m) {
    if (!std::isfinite(absmax[m])) fail_not_finite(who, m);
  }
}

/// What one row's codes lack: kept columns count as 0, and so does the padding.
void finish_codes(std::byte* codes, std::int64_t k, std::int64_t k_padded, ActivationFormat format,
                  const ActivationRules& rules, const StaticActivations& statics) noexcept {
  const std::int32_t offset = format == ActivationFormat::u8_offset ? 128 : 0;
  for (const std::int64_t column : rules.keep_columns) {
    codes[column] = static_cast<std::byte>(statics.zero(column) + offset);
  }
  store_zeros(format, k_padded - k, codes + k);
}

}  // namespace

Activations quantize_statically(const char* who, Context& context, Workspace& memory,
                                const GemmKernels& kernels, const ActivationRules& rules,
                                const ConstAnyMatrix& x) {
  const std::int64_t k_padded = kernels.layout.padded_k(x.cols);
  const RowBlockTasks tasks(context, kernels, x.rows, k_padded);
  Activations batch;
  batch.m = x.rows;
  batch.k = x.cols;
  batch.k_padded = k_padded;
  batch.x_dtype = x.dtype;
  batch.kernels = kernels;
  batch.x = rows_of(x, 0, x.rows);
  std::byte* codes = nullptr;
  std::byte* scratch = nullptr;
  float* row_scale = nullptr;
  std::int32_t* sums = nullptr;
  float* kept_x = nullptr;
  carve(memory, 0, [&](Arena& arena) {
    codes = arena.take<std::byte>(tasks.activation_bytes());
    scratch = arena.take<std::byte>(tasks.count * tasks.scratch_bytes());
    row_scale = arena.take<float>(x.rows);
    sums = arena.take<std::int32_t>(words_of_sums(kernels, x.rows, k_padded));
    kept_x = arena.take<float>(x.rows * rules.kept());
  });
  batch.data = codes;
  batch.row_scale = row_scale;
  batch.sums = sums;
  batch.kept_x = kept_x;
  if (x.rows == 0) return batch;
  if (x.cols == 0) {
    std::fill_n(row_scale, x.rows, 0.0f);
    return batch;
  }
  if (rules.options.check_finite) check_finite_rows(who, context, row_scale, x);
  const StaticActivations statics(*rules.static_params, x.cols);
  const bool is_unsigned = kernels.activations == ActivationFormat::u8_offset;
  const QuantizerKernels quantizer(context.kernels(), *rules.code_blocks[is_unsigned], x.cols);
  parallel(context, tasks.count, x.rows * x.cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      tasks.fill(
          task, scratch + task * tasks.scratch_bytes(), codes,
          [&](std::int64_t first, std::int64_t rows, std::byte* plain, std::ptrdiff_t stride) {
            quantizer.quantize({0, rows, 0, x.cols}, rows_of(x, first, rows).data, x.dtype,
                               x.stride, plain, stride);
            for (std::int64_t r = 0; r < rows; ++r) {
              finish_codes(plain + r * stride, x.cols, k_padded, kernels.activations, rules,
                           statics);
            }
          });
    }
  });
  std::fill_n(row_scale, x.rows, statics.scale());
  sum_codes(context, kernels, tasks.blocks, codes, k_padded, sums);
  if (rules.kept() > 0) {
    context.kernels().gather_features(
        {rows_of(x, 0, x.rows), rules.columns_at, rules.kept(), 0.0f, kept_x, context.queue()});
  }
  return batch;
}

MatrixView<const float> round_activations(const char* who, Context& context, Workspace& memory,
                                          const ActivationRules& rules, const ConstAnyMatrix& x) {
  const auto tasks = std::min<std::int64_t>(x.rows, context.executor().concurrency());
  float* rounded = nullptr;
  float* absmax = nullptr;
  std::byte* scratch = nullptr;
  carve(memory, 1, [&](Arena& arena) {
    rounded = arena.take<float>(x.rows * x.cols);
    absmax = arena.take<float>(x.rows + 2);
    scratch = arena.take<std::byte>(tasks * align_up(x.cols));
  });
  const MatrixView<const float> result(rounded, x.rows, x.cols);
  if (x.rows == 0 || x.cols == 0) return result;
  const KernelTable& table = context.kernels();
  if (rules.options.check_finite) check_finite_rows(who, context, absmax, x);
  if (!rules.is_static()) {
    // (NaN elements count for nothing here, and stay NaN.)
    for (std::int64_t m = 0; m < x.rows; ++m) {
      float* const range = absmax + x.rows;
      table.range({.x = rows_of(x, m, 1), .per_column = false, .min = range, .max = range + 1});
      absmax[m] = std::max({-range[0], range[1], 0.0f});
    }
    if (rules.options.activation_scale == ActivationScale::per_tensor) {
      std::fill_n(absmax, x.rows, *std::max_element(absmax, absmax + x.rows));
    }
  }
  parallel(context, tasks, x.rows * x.cols * 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t task = begin; task < end; ++task) {
      std::byte* const codes = scratch + task * align_up(x.cols);
      const auto round_row = [&](std::int64_t m, const BlockParams& blocks) {
        const QuantizerKernels quantizer(table, blocks, x.cols);
        const Window row{0, 1, 0, x.cols};
        quantizer.quantize(row, rows_of(x, m, 1).data, x.dtype, x.stride, codes, x.cols);
        quantizer.dequantize(row, codes, x.cols, rounded + m * x.cols, DType::float32, x.cols);
      };
      for (std::int64_t m = x.rows * task / tasks; m < x.rows * (task + 1) / tasks; ++m) {
        if (rules.is_static()) {
          round_row(m, *rules.static_blocks);
        } else if (std::isfinite(absmax[m])) {
          const QuantParams params =
              params_from_range({-absmax[m]}, {absmax[m]}, float8_e4m3fn_symmetric, per_tensor);
          round_row(m, BlockParams(params, 1, x.cols));
        } else {
          table.convert(
              {rows_of(x, m, 1).data, x.dtype, rounded + m * x.cols, DType::float32, x.cols});
        }
      }
    }
  });
  return result;
}

}  // namespace kvant::detail
