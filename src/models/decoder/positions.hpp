#pragma once

// Positions: rotary tables and rotations, ALiBi's slopes.

#include <vector>

#include "kvant/models/config.hpp"

namespace kvant::models {

/// What a pair of elements turns by per position, [dims / 2].
/// @param length of the sequence, the call's tokens included (it matters to RotaryScaling::dynamic)
std::vector<float> rotary_frequencies(const Rotary& rotary, std::int64_t length);

/// Turns the pairs (i, i + half) of x [2 half].
void rotate(float* x, const float* cosines, const float* sines, std::int64_t half);

/// The bucket of a distance (key - query).
/// @param both_ways keys behind the query have buckets of their own; false: they count as distance
/// 0
std::int64_t relative_bucket(const Relative& relative, std::int64_t distance, bool both_ways);

/// 2^(-8 h / n) for head h = 1 .. n; where n is no power of two, as the paper's code goes on.
std::vector<float> alibi_slopes(std::int64_t heads);

}  // namespace kvant::models
