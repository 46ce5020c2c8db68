#pragma once

/// @file
/// What the rules of quantization (quantize.hpp) and the kernels both speak of: the order of the
/// roundings, the smallest absmax.

#include <cstdint>

#include "kvant/config.hpp"

namespace kvant {

/// Order of the roundings in quantize; with zero point 0 all reciprocal orders agree.
enum class RoundOrder : std::uint8_t {
  kvant,          ///< clamp(rne(x * inv_scale) + zero_point)
  divide,         ///< clamp(rne(x / scale) + zero_point): quanto, GPTQ, AWQ
  torch_channel,  ///< clamp(rne(x * inv_scale + zero_point)): torch per channel, qint32
  torch_tensor,   ///< clamp(rne(fma(x, inv_scale, zero_point))): torch per tensor
};

/// The absmax below which 127 / absmax is not finite: 127 times the smallest float with a finite
/// reciprocal (bits 0x00200001), rounded up.
inline constexpr float kSmallestAbsmax = 0x1.fc0010p-122f;

}  // namespace kvant
