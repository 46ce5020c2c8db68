#pragma once

// The epilogue of the scalar kernels: what happens to one sum on its way out (kvant::Epilogue).

#include <cmath>

#include "kvant/float_element.hpp"
#include "kvant/kernels/gemm.hpp"

namespace kvant::detail {
namespace {

float sum_outliers(const OutlierBlock& block, std::int64_t m, std::int64_t n, float sum) noexcept {
  for (std::int64_t j = 0; j < block.count; ++j) {
    sum = std::fma(block.x[j * block.x_stride + m],
                   load_element(block.w, block.w_dtype, n * block.w_stride + j), sum);
  }
  return sum;
}

/// value: the sum with all its scales.
void finish_value(const Epilogue& e, std::int64_t m, std::int64_t n, float value) noexcept {
  const bool has_outliers = e.outliers.count() > 0;
  const float outliers =
      sum_outliers(e.outliers.found, m, n, sum_outliers(e.outliers.kept, m, n, 0.0f));
  if (e.bias_first) {
    if (e.bias != nullptr) value += e.bias[n];
    if (has_outliers) value = round_to(e.y_dtype, value) + outliers;
  } else {
    if (has_outliers) value += outliers;
    if (e.bias != nullptr) value += e.bias[n];
  }
  store_element(e.y, e.y_dtype, m * e.y_stride + n, value);
}

}  // namespace
}  // namespace kvant::detail
