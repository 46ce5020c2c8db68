#pragma once

/// @file
/// One element of a float matrix whose type is known at run time: float32, float16 or bfloat16.
/// For the scalar rules and for gathering a few elements; whole rows belong to the kernels.

#include <cstddef>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant::detail {

/// Element i of data as float.
inline float load_element(const void* data, DType dtype, std::ptrdiff_t i) noexcept {
  switch (dtype) {
    case DType::float16: return static_cast<float>(static_cast<const float16*>(data)[i]);
    case DType::bfloat16: return static_cast<float>(static_cast<const bfloat16*>(data)[i]);
    default: return static_cast<const float*>(data)[i];
  }
}

/// Element i of data, rounded once to its type.
inline void store_element(void* data, DType dtype, std::ptrdiff_t i, float value) noexcept {
  switch (dtype) {
    case DType::float16: static_cast<float16*>(data)[i] = float16(value); break;
    case DType::bfloat16: static_cast<bfloat16*>(data)[i] = bfloat16(value); break;
    default: static_cast<float*>(data)[i] = value; break;
  }
}

/// value as it comes back from the type.
inline float round_to(DType dtype, float value) noexcept {
  switch (dtype) {
    case DType::float16: return static_cast<float>(float16(value));
    case DType::bfloat16: return static_cast<float>(bfloat16(value));
    default: return value;
  }
}

}  // namespace kvant::detail
