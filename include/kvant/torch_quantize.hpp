#pragma once

/// @file
/// Two of torch's rules that are no QuantScheme: the parameters of quantize_per_tensor_dynamic, and
/// the gradient mask of fake quantization. Checked against torch 2.13.

#include <cstdint>

#include "kvant/config.hpp"
#include "kvant/matrix_view.hpp"
#include "kvant/quant_params.hpp"

namespace kvant::torch {

/// Scale and zero point of one tensor.
struct DynamicParams {
  double scale = 1;  ///< in double, as torch keeps it
  std::int32_t zero_point = 0;
  /// For quantize(): the scale in float, codes over the whole range of the type even where
  /// reduce_range chose the scale for half of it, in the order of torch's quantize_per_tensor.
  QuantParams params;
};

/// Scale and zero point as torch.quantize_per_tensor_dynamic chooses them, in double: the range is
/// extended to contain 0; a scale of 0 (or whose reciprocal is infinite) becomes 0.1; a scale below
/// 6.1e-5 is raised to it and the range with it; the zero point is taken from the end of the range
/// whose rounding error is smaller.
/// @param dtype  int8 (qint8) or uint8 (quint8)
/// @param reduce_range  as if the type had one bit less: -64..63, 0..127
/// @throws Error unsupported (dtype), not_finite
[[nodiscard]] KVANT_API DynamicParams choose_dynamic_params(ConstAnyMatrix x, DType dtype,
                                                            bool reduce_range = false);

/// Where a gradient passes fake quantization (the straight-through estimator): 1 where the code
/// before clamping, rne(x * inv_scale) + zero_point, lies in the scheme's range, else 0; 0 for NaN.
/// @param mask  uint8 or bool, of x's shape
/// @throws Error as check_params; shape_mismatch, unsupported (dtype, a shift)
KVANT_API void fake_quantize_mask(ConstAnyMatrix x, const QuantParams& params, AnyMatrix mask);

}  // namespace kvant::torch
