#pragma once

/// @file
/// The range of each block of a matrix, and how ranges of several batches become one: what
/// observers remember.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/core/checks.hpp"
#include "kvant/core/float_environment.hpp"
#include "kvant/core/number_text.hpp"
#include "kvant/quant_params.hpp"

namespace kvant {

/// What to do with NaN and infinities when choosing parameters.
enum class NonFinite : std::uint8_t {
  error,   ///< Error not_finite says where the first one is
  ignore,  ///< as if they were not there
};

/// The smallest and largest value of each block, row-major over the blocks; an empty block (or one
/// of nothing but ignored values) has min = +inf, max = -inf.
struct BlockRange {
  std::vector<float> min;
  std::vector<float> max;
};

namespace detail {

/// Takes a batch into what was seen so far: the first as it is, of the others combine(i) block i.
template <class Combine>
void take_batch(BlockRange& seen, const BlockRange& batch, Combine&& combine) {
  if (batch.min.empty()) return;
  if (seen.min.empty()) {
    seen = batch;
    return;
  }
  if (seen.min.size() != batch.min.size()) {
    fail(ErrorCode::shape_mismatch, "the observer has seen " + std::to_string(seen.min.size()) +
                                        " blocks, this batch has " +
                                        std::to_string(batch.min.size()));
  }
  for (std::size_t i = 0; i < batch.min.size(); ++i) combine(i);
}

/// Smallest and largest of all batches.
inline void take_extremes(BlockRange& seen, const BlockRange& batch) {
  const ScopedFloatEnvironment environment;
  take_batch(seen, batch, [&](std::size_t i) {
    seen.min[i] = std::min(seen.min[i], batch.min[i]);
    seen.max[i] = std::max(seen.max[i], batch.max[i]);
  });
}

/// m += c * (batch - m) in fp32, two roundings.
inline void take_average(BlockRange& seen, const BlockRange& batch, float c) {
  const ScopedFloatEnvironment environment;
  take_batch(seen, batch, [&](std::size_t i) {
    if (!std::isfinite(batch.min[i])) return;  // nothing but ignored values
    if (!std::isfinite(seen.min[i])) {
      seen.min[i] = batch.min[i];
      seen.max[i] = batch.max[i];
      return;
    }
    seen.min[i] += separate_rounding(c * (batch.min[i] - seen.min[i]));
    seen.max[i] += separate_rounding(c * (batch.max[i] - seen.max[i]));
  });
}

/// @throws Error invalid_argument where nothing was observed and there is more than one block
inline QuantParams observed_params(const BlockRange& range, const QuantScheme& scheme,
                                   BlockShape block) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  if (!range.min.empty()) return params_from_range(range.min, range.max, scheme, block);
  if (block == per_tensor) return params_from_range({kInfinity}, {-kInfinity}, scheme, block);
  fail(ErrorCode::invalid_argument,
       "the observer has seen no batch, so the number of blocks is unknown");
}

inline void check_averaging(float c) {
  if (c > 0 && c <= 1) return;
  fail(ErrorCode::invalid_argument, "MovingAverageObserver: the averaging constant is " +
                                        number_text(c) + ", it must be above 0 and at most 1");
}

/// @throws Error invalid_argument for a negative side
inline void check_block(const char* who, BlockShape block) {
  if (block.rows >= 0 && block.cols >= 0) return;
  fail(ErrorCode::invalid_argument, std::string(who) + ": the block shape " +
                                        shape_text(block.rows, block.cols) + " is negative");
}

[[noreturn]] inline void fail_not_finite(float value, std::int64_t row, std::int64_t col) {
  fail(ErrorCode::not_finite, "no scale fits x: it holds " + number_text(value) + " at " +
                                  shape_text(row, col) +
                                  "; NonFinite::ignore leaves such values out");
}

}  // namespace detail

}  // namespace kvant
