#pragma once

/// @file
/// Rules of torch that are no QuantScheme: the parameters of quantize_per_tensor_dynamic, and the
/// gradients of fake quantization, with scales that stay or are learned. Checked against torch
/// 2.13.

#include <cstdint>
#include <vector>

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

/// What a loss wants of scales and zero points that are trained, one for each block.
struct LearnedStepGradients {
  std::vector<float> scale;
  std::vector<float> zero_point;
};

/// The gradients of y = fake_quantize(x, params) where scales and zero points are learned: LSQ
/// (arXiv 1902.08153), with zero points as torch's fake quantization with learnable parameters has
/// them. grad_x is grad_y where the mask is 1, else 0; an element adds to its block's
///   scale       grad_y * ((code - zero_point) - x / scale) inside the range, grad_y * (end -
///               zero_point) beyond an end of it
///   zero_point  0 inside the range, -grad_y * scale beyond
/// A step of training then takes scale - rate * gradient, and keeps it above 0; zero points are
/// learned as floats and rounded for the next step. Sums are made in double.
/// @param grad_y  of x's shape, fp32, fp16 or bf16
/// @param grad_x  of x's shape, fp32, fp16 or bf16; may be grad_y itself
/// @param factor  gradients of a block are multiplied by; 0: LSQ's 1 / sqrt(elements of the block *
///                highest code)
/// @throws Error as check_params; shape_mismatch, unsupported (dtype, a shift, 8-bit floats)
KVANT_API LearnedStepGradients learned_step_gradients(ConstAnyMatrix x, const QuantParams& params,
                                                      ConstAnyMatrix grad_y, AnyMatrix grad_x,
                                                      double factor = 0);

}  // namespace kvant::torch
