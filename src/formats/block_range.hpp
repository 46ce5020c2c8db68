#pragma once

// The range of a run of weights, as formats with blocks need it.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "kvant/float16.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant::detail {

/// Calls each(values, count) for the elements [first, last) of row r as float32, some hundred at a
/// time.
template <class Each>
void for_floats(const KernelTable& kernels, const FloatRows& x, std::int64_t r, std::int64_t first,
                std::int64_t last, Each&& each) noexcept {
  constexpr std::int64_t kChunk = 256;
  float values[kChunk];
  const std::int64_t element = describe(x.dtype).bits / 8;
  const auto* row = static_cast<const std::byte*>(x.data) + r * x.stride * element;
  for (std::int64_t at = first; at < last; at += kChunk) {
    const std::int64_t count = std::min(kChunk, last - at);
    kernels.convert({row + at * element, x.dtype, values, DType::float32, count});
    each(static_cast<const float*>(values), count);
  }
}

/// Least and largest element, 0 among them; NaN both where one is NaN or infinite.
struct BlockRange {
  float least = 0.0f;
  float largest = 0.0f;
  bool finite = true;

  void add(const float* values, std::int64_t count) noexcept {
    std::int32_t bits = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      least = values[i] < least ? values[i] : least;
      largest = values[i] > largest ? values[i] : largest;
      bits = std::max(bits, std::bit_cast<std::int32_t>(values[i]) & 0x7FFFFFFF);
    }
    finite = finite && bits < 0x7F800000;
  }
  /// The elements [first, last) of row r.
  void add_row(const KernelTable& kernels, const FloatRows& x, std::int64_t r, std::int64_t first,
               std::int64_t last) noexcept {
    for_floats(kernels, x, r, first, last,
               [this](const float* values, std::int64_t count) { add(values, count); });
  }
  [[nodiscard]] float absmax() const noexcept { return std::max(-least, largest); }
};

/// A scale as it is stored, in fp16: not zero, not infinite.
inline float stored_scale(float scale) noexcept {
  return std::clamp(static_cast<float>(float16(scale)), 0x1p-24f, 65504.0f);
}

}  // namespace kvant::detail
