#pragma once

// A sum on its way out (Epilogue has the rules), an int32 one or that of groups with scales: the
// floats are the CPU's bit for bit, each step rounded by itself.

#include <type_traits>

#include "cuda/outliers.hpp"

namespace kvant {
namespace {

/// A sum with its scales.
KVANT_DEVICE float scaled(const Epilogue& e, std::int32_t sum, float row_scale, float col_scale) {
  const float scale = device::multiply(row_scale, col_scale);
  return device::multiply(device::multiply(static_cast<float>(sum), scale), e.scale);
}
/// The groups' scales are in it.
KVANT_DEVICE float scaled(const Epilogue&, float sum, float row_scale, float /*col_scale*/) {
  return device::multiply(sum, row_scale);
}

/// y's float before its last rounding. @param outliers  their sum from zero
KVANT_DEVICE float finished(const Epilogue& e, float value, float bias, bool has_outliers,
                            float outliers) {
  if (e.bias_first) {
    if (e.bias != nullptr) value = device::add(value, bias);
    if (has_outliers) value = device::add(rounded_to(e.y_dtype, value), outliers);
  } else {
    if (has_outliers) value = device::add(value, outliers);
    if (e.bias != nullptr) value = device::add(value, bias);
  }
  return value;
}

/// One element by itself. @tparam Sum  std::int32_t, or float of groups
template <class Sum>
KVANT_DEVICE void store_result(const Epilogue& e, std::int64_t m, std::int64_t n, Sum sum,
                               bool has_outliers, float outliers) {
  const std::int64_t at = m * e.y_stride + n;
  float col_scale = 0.0f;
  if constexpr (std::is_same_v<Sum, std::int32_t>) {
    if (e.y_dtype == DType::int32) {
      static_cast<std::int32_t*>(e.y)[at] = sum;
      return;
    }
    col_scale = e.col_scale[n];
  }
  const float bias = e.bias != nullptr ? e.bias[n] : 0.0f;
  const float value = scaled(e, sum, e.row_scale[m], col_scale);
  store_float(e.y, e.y_dtype, at, finished(e, value, bias, has_outliers, outliers));
}

}  // namespace
}  // namespace kvant
