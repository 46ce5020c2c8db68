#include "kvant/bitsandbytes.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "kvant/context.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/error.hpp"
#include "kvant/int8_matmul.hpp"
#include "kvant/kernel_table.hpp"
#include "ops/linear/multiply.hpp"
#include "ops/support/elements.hpp"
#include "ops/support/validate.hpp"

namespace kvant::bitsandbytes {

using detail::check_bias;
using detail::check_float;
using detail::check_readable;
using detail::check_writable;
using detail::fail;
using detail::shape_text;

namespace {

void check_stats(const char* who, const char* what, std::span<const float> stats,
                 std::int64_t count) {
  if (static_cast<std::int64_t>(stats.size()) != count) {
    fail(ErrorCode::shape_mismatch, std::string(who) + ": " + std::to_string(stats.size()) + " " +
                                        what + " for " + std::to_string(count));
  }
}

void check_output(const char* who, const ConstAnyMatrix& out, std::int64_t m, std::int64_t n) {
  check_writable(who, "out", out);
  if (out.rows != m || out.cols != n) {
    fail(ErrorCode::shape_mismatch, std::string(who) + ": out is " +
                                        shape_text(out.rows, out.cols) + "; " + shape_text(m, n) +
                                        " is wanted");
  }
}

}  // namespace

VectorwiseQuantized vectorwise_quant(ConstAnyMatrix a, float threshold) {
  constexpr const char* kWho = "vectorwise_quant";
  check_float(kWho, "a", a);
  (void)detail::ActivationRules::of(kWho, {.threshold = threshold}, a.cols);
  VectorwiseQuantized result;
  result.codes.resize(static_cast<std::size_t>(a.rows * a.cols));
  result.row_stats.resize(static_cast<std::size_t>(a.rows));
  const bool search = threshold > 0.0f;
  std::vector<std::uint8_t> flags(static_cast<std::size_t>(a.cols), 0);

  const KernelTable& kernels = default_context().kernels();
  constexpr std::int64_t kPad = 64;  // the kernels write whole vectors of codes
  const std::int64_t padded = (a.cols + kPad - 1) / kPad * kPad;
  AlignedArray<std::int8_t> row(static_cast<std::size_t>(padded));
  const detail::ScopedFloatEnvironment environment;
  const std::int64_t element = describe(a.dtype).bits / 8;
  for (std::int64_t r = 0; r < a.rows; ++r) {
    kernels.quantize_rows({.x = {static_cast<const std::byte*>(a.data) + r * a.stride * element,
                                 a.dtype, 1, a.cols, a.stride},
                           .bitsandbytes = true,
                           .threshold = search ? threshold : std::numeric_limits<float>::infinity(),
                           .keep_mask = nullptr,
                           .given_absmax = nullptr,
                           .codes = row.data(),
                           .format = ActivationFormat::s8,
                           .code_stride = padded,
                           .k_padded = padded,
                           .absmax = &result.row_stats[static_cast<std::size_t>(r)],
                           .outlier_columns = search ? flags.data() : nullptr});
    std::copy(row.data(), row.data() + a.cols, result.codes.begin() + r * a.cols);
  }
  if (!search) return result;
  result.outlier_columns.emplace();
  for (std::int64_t c = 0; c < a.cols; ++c) {
    if (flags[static_cast<std::size_t>(c)] == 0) continue;
    result.outlier_columns->push_back(c);
    for (std::int64_t r = 0; r < a.rows; ++r) {
      result.codes[static_cast<std::size_t>(r * a.cols + c)] = 0;
    }
  }
  return result;
}

void vectorwise_dequant(MatrixView<const std::int8_t> codes, std::span<const float> stats,
                        MatrixView<float> out) {
  constexpr const char* kWho = "vectorwise_dequant";
  check_readable(kWho, "codes", codes);
  check_stats(kWho, "row statistics", stats, codes.rows());
  check_output(kWho, out, codes.rows(), codes.cols());
  const detail::ScopedFloatEnvironment environment;
  for (std::int64_t r = 0; r < codes.rows(); ++r) {
    const float scale = stats[static_cast<std::size_t>(r)];
    for (std::int64_t c = 0; c < codes.cols(); ++c) {
      out(r, c) = static_cast<float>(codes(r, c)) * scale * detail::kInverse127;
    }
  }
}

void linear_matmul(MatrixView<const std::int8_t> ca, MatrixView<const std::int8_t> cb,
                   MatrixView<std::int32_t> out) {
  constexpr const char* kWho = "linear_matmul";
  check_readable(kWho, "ca", ca);
  check_readable(kWho, "cb", cb);
  if (ca.cols() != cb.cols()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": ca has " + std::to_string(ca.cols()) +
                                        " columns, cb " + std::to_string(cb.cols()));
  }
  check_output(kWho, out, ca.rows(), cb.rows());
  Context& context = default_context();
  int8_matmul(context, ca, pack_codes(context, cb), out);
}

void mm_dequant(MatrixView<const std::int32_t> c, std::span<const float> row_stats,
                std::span<const float> col_stats, AnyMatrix out, ConstAnyMatrix bias) {
  constexpr const char* kWho = "mm_dequant";
  check_readable(kWho, "c", c);
  check_stats(kWho, "row statistics", row_stats, c.rows());
  check_stats(kWho, "column statistics", col_stats, c.cols());
  check_float(kWho, "out", out);
  check_output(kWho, out, c.rows(), c.cols());
  check_bias(kWho, bias, c.cols());
  const detail::ScopedFloatEnvironment environment;
  for (std::int64_t m = 0; m < c.rows(); ++m) {
    for (std::int64_t n = 0; n < c.cols(); ++n) {
      const float scale =
          row_stats[static_cast<std::size_t>(m)] * col_stats[static_cast<std::size_t>(n)];
      float value = static_cast<float>(c(m, n)) * scale * detail::kBitsandbytesScale;
      if (bias.rows != 0) value += detail::load_float(bias, 0, n);
      detail::store_float(out, m, n, value);
    }
  }
}

void scaled_mm(MatrixView<const std::int8_t> ca, MatrixView<const std::int8_t> cb,
               std::span<const float> row_stats, std::span<const float> col_stats, AnyMatrix out,
               ConstAnyMatrix bias) {
  check_readable("scaled_mm", "ca", ca);
  check_readable("scaled_mm", "cb", cb);
  std::vector<std::int32_t> products(static_cast<std::size_t>(ca.rows() * cb.rows()));
  const MatrixView<std::int32_t> c(products.data(), ca.rows(), cb.rows());
  linear_matmul(ca, cb, c);
  mm_dequant(c, row_stats, col_stats, out, bias);
}

void mixed_scaled_mm(ConstAnyMatrix a, MatrixView<const std::int8_t> ca,
                     MatrixView<const std::int8_t> cb, std::span<const float> row_stats,
                     std::span<const float> col_stats,
                     std::span<const std::int64_t> outlier_columns, AnyMatrix out,
                     ConstAnyMatrix bias) {
  constexpr const char* kWho = "mixed_scaled_mm";
  check_float(kWho, "a", a);
  if (a.rows != ca.rows() || a.cols != ca.cols()) {
    fail(ErrorCode::shape_mismatch, std::string(kWho) + ": a is " + shape_text(a.rows, a.cols) +
                                        ", its codes " + shape_text(ca.rows(), ca.cols()));
  }
  for (const std::int64_t column : outlier_columns) {
    if (column < 0 || column >= a.cols) {
      fail(ErrorCode::out_of_range, std::string(kWho) + ": outlier column " +
                                        std::to_string(column) + " of " + std::to_string(a.cols));
    }
  }
  scaled_mm(ca, cb, row_stats, col_stats, out, bias);
  if (outlier_columns.empty()) return;
  const detail::ScopedFloatEnvironment environment;
  for (std::int64_t m = 0; m < a.rows; ++m) {
    for (std::int64_t n = 0; n < cb.rows(); ++n) {
      float sum = 0.0f;
      for (const std::int64_t k : outlier_columns) {
        const float weight = static_cast<float>(cb(n, k)) * col_stats[static_cast<std::size_t>(n)] *
                             detail::kInverse127;
        sum = std::fma(detail::load_float(a, m, k), detail::round_to(a.dtype, weight), sum);
      }
      detail::store_float(out, m, n, detail::load_float(out, m, n) + sum);
    }
  }
}

}  // namespace kvant::bitsandbytes
