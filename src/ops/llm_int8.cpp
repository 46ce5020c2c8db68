#include "kvant/llm_int8.hpp"

#include <limits>
#include <vector>

#include "kvant/error.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/linear.hpp"
#include "ops/int8_weights.hpp"
#include "ops/parallel.hpp"
#include "ops/validate.hpp"

namespace kvant {
namespace {

/// Columns of x with an element |x| >= threshold.
std::vector<std::int64_t> find_outliers(Context& context, const ConstAnyMatrix& x, float threshold) {
  const auto cols = static_cast<std::size_t>(x.cols);
  std::vector<std::uint8_t> flags(cols, 0);
  std::vector<float> absmax(static_cast<std::size_t>(x.rows));
  const detail::ScopedFloatEnvironment environment;
  context.kernels().quantize_rows({.x = {x.data, x.dtype, x.rows, x.cols, x.stride},
                                   .parity = false,
                                   .threshold = threshold,
                                   .keep_mask = nullptr,
                                   .given_absmax = nullptr,
                                   .codes = nullptr,
                                   .format = CodeFormat::s8,
                                   .code_stride = 0,
                                   .k_padded = 0,
                                   .absmax = absmax.data(),
                                   .outlier_columns = flags.data()});
  std::vector<std::int64_t> columns;
  for (std::size_t k = 0; k < cols; ++k) {
    if (flags[k] != 0) columns.push_back(static_cast<std::int64_t>(k));
  }
  return columns;
}

}  // namespace

void llm_int8_matmul(Context& context, ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y,
                     ConstAnyMatrix bias, const Int8Options& options) {
  constexpr const char* kWho = "llm_int8_matmul";
  detail::check_float(kWho, "x", x);
  detail::check_options(kWho, options, w.cols);
  Int8Options chosen = options;
  std::vector<std::int64_t> columns;
  if (options.arithmetic == Arithmetic::kvant && options.outliers == Outliers::per_call &&
      options.threshold > 0.0f && options.keep_columns.empty() && x.cols == w.cols) {
    columns = find_outliers(context, x, options.threshold);
    chosen.keep_columns = columns;
  }
  Int8Linear::quantize(context, w, bias, chosen).forward(context, x, y);
}

void llm_int8_matmul(ConstAnyMatrix x, ConstAnyMatrix w, AnyMatrix y, ConstAnyMatrix bias,
                     const Int8Options& options) {
  llm_int8_matmul(default_context(), x, w, y, bias, options);
}

}  // namespace kvant
