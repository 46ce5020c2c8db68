#pragma once

// One element of a float matrix whose type is known at run time, on the device (host:
// kvant/float_element.hpp).

#include "cuda/device.hpp"
#include "kvant/dtype.hpp"

namespace kvant {
namespace {

KVANT_DEVICE float load_float(const void* data, DType dtype, std::int64_t i) {
  switch (dtype) {
    case DType::float16: return device::half_to_float(static_cast<const std::uint16_t*>(data)[i]);
    case DType::bfloat16:
      return device::bfloat_to_float(static_cast<const std::uint16_t*>(data)[i]);
    default: return static_cast<const float*>(data)[i];
  }
}

KVANT_DEVICE void store_float(void* data, DType dtype, std::int64_t i, float value) {
  switch (dtype) {
    case DType::float16: static_cast<std::uint16_t*>(data)[i] = device::float_to_half(value); break;
    case DType::bfloat16:
      static_cast<std::uint16_t*>(data)[i] = device::float_to_bfloat(value);
      break;
    default: static_cast<float*>(data)[i] = value; break;
  }
}

/// value as it comes back from the type.
KVANT_DEVICE float rounded_to(DType dtype, float value) {
  switch (dtype) {
    case DType::float16: return device::half_to_float(device::float_to_half(value));
    case DType::bfloat16: return device::bfloat_to_float(device::float_to_bfloat(value));
    default: return value;
  }
}

KVANT_DEVICE float absolute(float value) {
  return device::bits_float(device::float_bits(value) & 0x7FFFFFFFu);
}

inline constexpr std::uint32_t kInfinityBits = 0x7F800000u;
inline constexpr std::uint32_t kQuietNaNBits = 0x7FC00000u;

KVANT_DEVICE bool is_nan(float value) {
  return (device::float_bits(value) & 0x7FFFFFFFu) > kInfinityBits;
}

/// The one way both sides cut work among blocks.
inline int blocks_for(std::int64_t work, std::int64_t per_block, std::int64_t at_most) {
  const std::int64_t blocks = (work + per_block - 1) / per_block;
  return static_cast<int>(blocks < 1 ? 1 : blocks > at_most ? at_most : blocks);
}

}  // namespace
}  // namespace kvant
