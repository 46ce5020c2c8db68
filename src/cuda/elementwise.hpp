#pragma once

// range, quantize, dequantize and convert: an element a thread (kernel_table.hpp has the rules).

#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

inline constexpr int kElementThreads = 256;

inline device::Launch element_launch(std::int64_t elements, void* queue) {
  return {.grid = {blocks_for(elements, kElementThreads, 1 << 16), 1, 1},
          .threads = kElementThreads,
          .queue = queue};
}

KVANT_DEVICE std::int64_t first_element() {
  return std::int64_t{blockIdx.x} * kElementThreads + threadIdx.x;
}
KVANT_DEVICE std::int64_t element_step() {
  return std::int64_t{gridDim.x} * kElementThreads;
}

/// quantize_value's rule.
KVANT_DEVICE std::int32_t quantized(float x, float factor, float zero, float lowest, float highest,
                                    RoundOrder order) {
  if (is_nan(x)) return static_cast<std::int32_t>(zero);
  float code = 0.0f;
  switch (order) {
    case RoundOrder::kvant:
      code = device::add(device::round_half_even(device::multiply(x, factor)), zero);
      break;
    case RoundOrder::divide:
      code = device::add(device::round_half_even(device::divide(x, factor)), zero);
      break;
    case RoundOrder::torch_channel:
      code = device::round_half_even(device::add(device::multiply(x, factor), zero));
      break;
    case RoundOrder::torch_tensor:
      code = device::round_half_even(device::fused_multiply_add(x, factor, zero));
      break;
  }
  if (code <= lowest) return static_cast<std::int32_t>(lowest);
  if (code >= highest) return static_cast<std::int32_t>(highest);
  return static_cast<std::int32_t>(code);
}

KVANT_KERNEL(kElementThreads, 4) quantize_kernel(KVANT_CONSTANT QuantizeArgs a) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  for (std::int64_t i = first_element(); i < a.x.rows * a.x.cols; i += element_step()) {
    const std::int64_t r = i / a.x.cols, c = i % a.x.cols;
    const std::int64_t p = r * a.row_step + c * a.col_step;
    static_cast<std::uint8_t*>(a.codes)[r * a.code_stride + c] = static_cast<std::uint8_t>(
        quantized(load_float(a.x.data, a.x.dtype, r * a.x.stride + c), a.scale[p], a.zero_point[p],
                  a.lowest, a.highest, a.order));
  }
}

KVANT_KERNEL(kElementThreads, 4) dequantize_kernel(KVANT_CONSTANT DequantizeArgs a) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  for (std::int64_t i = first_element(); i < a.rows * a.cols; i += element_step()) {
    const std::int64_t r = i / a.cols, c = i % a.cols;
    const std::int64_t p = r * a.row_step + c * a.col_step;
    const std::uint8_t byte = static_cast<const std::uint8_t*>(a.codes)[r * a.code_stride + c];
    const int code = a.is_unsigned ? int{byte} : int{static_cast<std::int8_t>(byte)};
    const float shifted = device::add(static_cast<float>(code), -a.zero_point[p]);
    store_float(a.y, a.y_dtype, r * a.y_stride + c, device::multiply(shifted, a.scale[p]));
  }
}

/// A NaN keeps its sign and the top of its payload, as on the host; the instructions would not.
KVANT_DEVICE float widened_nan(std::uint16_t bits, DType dtype) {
  if (dtype == DType::bfloat16) return device::bfloat_to_float(bits);
  return device::bits_float((bits & 0x8000u) << 16 | kInfinityBits | (bits & 0x3FFu) << 13);
}
KVANT_DEVICE std::uint16_t narrowed_nan(float value, DType dtype) {
  const std::uint32_t bits = device::float_bits(value);
  if (dtype == DType::bfloat16) return static_cast<std::uint16_t>(bits >> 16 | 0x40u);
  return static_cast<std::uint16_t>((bits >> 16 & 0x8000u) | 0x7E00u | (bits >> 13 & 0x3FFu));
}

KVANT_KERNEL(kElementThreads, 4) convert_kernel(KVANT_CONSTANT ConvertArgs a) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  for (std::int64_t i = first_element(); i < a.count; i += element_step()) {
    float value = load_float(a.x, a.x_dtype, i);
    const bool nan = is_nan(value);
    if (nan && a.x_dtype != DType::float32) {
      value = widened_nan(static_cast<const std::uint16_t*>(a.x)[i], a.x_dtype);
    }
    if (nan && a.y_dtype != DType::float32) {
      static_cast<std::uint16_t*>(a.y)[i] = narrowed_nan(value, a.y_dtype);
    } else {
      store_float(a.y, a.y_dtype, i, value);
    }
  }
}

inline void launch_quantize(const QuantizeArgs& a) {
  device::launch(element_launch(a.x.rows * a.x.cols, a.queue), &quantize_kernel, a);
}
inline void launch_dequantize(const DequantizeArgs& a) {
  device::launch(element_launch(a.rows * a.cols, a.queue), &dequantize_kernel, a);
}
inline void launch_convert(const ConvertArgs& a) {
  device::launch(element_launch(a.count, a.queue), &convert_kernel, a);
}

}  // namespace
}  // namespace kvant
