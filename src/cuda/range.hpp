#pragma once

// Minimum and maximum of rows or columns, NaN ignored (RangeArgs).

#include "cuda/block_reduce.hpp"
#include "cuda/float_elements.hpp"
#include "kvant/kernel_table.hpp"

namespace kvant {
namespace {

inline constexpr int kRangeThreads = 256;
inline constexpr int kRangeRows = 64;  ///< of a block, per column

/// Floats as unsigned integers of the same order, and back.
KVANT_DEVICE std::uint32_t ordered(float value) {
  const std::uint32_t bits = device::float_bits(value);
  return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}
KVANT_DEVICE float unordered(std::uint32_t bits) {
  return device::bits_float((bits & 0x80000000u) != 0 ? bits & 0x7FFFFFFFu : ~bits);
}

KVANT_KERNEL(kRangeThreads, 4) range_rows_kernel(KVANT_CONSTANT RangeArgs a) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  const float infinity = device::bits_float(kInfinityBits);
  for (std::int64_t row = blockIdx.x; row < a.x.rows; row += gridDim.x) {
    float low = infinity, high = -infinity;
    for (std::int64_t c = threadIdx.x; c < a.x.cols; c += kRangeThreads) {
      const float value = load_float(a.x.data, a.x.dtype, row * a.x.stride + c);
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    const std::uint32_t smallest = block_reduce<kRangeThreads>(
        ordered(low), [](std::uint32_t x, std::uint32_t y) { return x < y ? x : y; });
    const std::uint32_t largest = block_reduce<kRangeThreads>(
        ordered(high), [](std::uint32_t x, std::uint32_t y) { return x > y ? x : y; });
    if (threadIdx.x == 0) {
      a.min[row] = unordered(smallest);
      a.max[row] = unordered(largest);
    }
  }
}

/// Merges into a float what is less (or greater): positive floats are ordered as integers, negative
/// ones the other way round as unsigned integers, and any negative one is a greater unsigned.
KVANT_DEVICE void merge_min(float* at, float value) {
  const std::uint32_t bits = device::float_bits(value);
  if ((bits & 0x80000000u) == 0) {
    device::atomic_min(reinterpret_cast<std::int32_t*>(at), static_cast<std::int32_t>(bits));
  } else {
    device::atomic_max(reinterpret_cast<std::uint32_t*>(at), bits);
  }
}
KVANT_DEVICE void merge_max(float* at, float value) {
  const std::uint32_t bits = device::float_bits(value);
  if ((bits & 0x80000000u) == 0) {
    device::atomic_max(reinterpret_cast<std::int32_t*>(at), static_cast<std::int32_t>(bits));
  } else {
    device::atomic_min(reinterpret_cast<std::uint32_t*>(at), bits);
  }
}

KVANT_KERNEL(kRangeThreads, 4) range_columns_kernel(KVANT_CONSTANT RangeArgs a) {
  device::let_next_kernel_start();
  device::wait_for_previous_kernel();
  const std::int64_t c = std::int64_t{blockIdx.x} * kRangeThreads + threadIdx.x;
  if (c >= a.x.cols) return;
  const float infinity = device::bits_float(kInfinityBits);
  for (std::int64_t first = std::int64_t{blockIdx.y} * kRangeRows; first < a.x.rows;
       first += std::int64_t{gridDim.y} * kRangeRows) {
    float low = infinity, high = -infinity;
    for (std::int64_t row = first; row < first + kRangeRows && row < a.x.rows; ++row) {
      const float value = load_float(a.x.data, a.x.dtype, row * a.x.stride + c);
      low = value < low ? value : low;
      high = value > high ? value : high;
    }
    merge_min(a.min + c, low);
    merge_max(a.max + c, high);
  }
}

inline void launch_range(const RangeArgs& a) {
  if (a.x.rows == 0) return;
  if (a.per_column) {
    device::launch({.grid = {blocks_for(a.x.cols, kRangeThreads, 1 << 20),
                             blocks_for(a.x.rows, kRangeRows, 1 << 15), 1},
                    .threads = kRangeThreads,
                    .queue = a.queue},
                   &range_columns_kernel, a);
  } else {
    device::launch({.grid = {blocks_for(a.x.rows, 1, 1 << 20), 1, 1},
                    .threads = kRangeThreads,
                    .shared_bytes = kRangeThreads / 32 * 4,
                    .queue = a.queue},
                   &range_rows_kernel, a);
  }
}

}  // namespace
}  // namespace kvant
