#pragma once

// An int32 sum on its way out (Epilogue has the rules): the floats are the CPU's bit for bit, each
// step rounded by itself.

#include "cuda/outliers.hpp"

namespace kvant {
namespace {

/// y's float before its last rounding. @param outliers  their sum from zero
KVANT_DEVICE float finished(const Epilogue& e, std::int32_t acc, float row_scale, float col_scale,
                            float bias, bool has_outliers, float outliers) {
  float value = device::multiply(
      device::multiply(static_cast<float>(acc), device::multiply(row_scale, col_scale)), e.scale);
  if (e.bias_first) {
    if (e.bias != nullptr) value = device::add(value, bias);
    if (has_outliers) value = device::add(rounded_to(e.y_dtype, value), outliers);
  } else {
    if (has_outliers) value = device::add(value, outliers);
    if (e.bias != nullptr) value = device::add(value, bias);
  }
  return value;
}

/// One element by itself.
KVANT_DEVICE void store_result(const Epilogue& e, std::int64_t m, std::int64_t n, std::int32_t acc,
                               bool has_outliers, float outliers) {
  const std::int64_t at = m * e.y_stride + n;
  if (e.y_dtype == DType::int32) {
    static_cast<std::int32_t*>(e.y)[at] = acc;
    return;
  }
  const float bias = e.bias != nullptr ? e.bias[n] : 0.0f;
  store_float(e.y, e.y_dtype, at,
              finished(e, acc, e.row_scale[m], e.col_scale[n], bias, has_outliers, outliers));
}

}  // namespace
}  // namespace kvant
