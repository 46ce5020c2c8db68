#pragma once

// A row-parallel layer whose weights, x and y are on the ranks' devices.

#include <cstdint>
#include <span>

#include "kvant/linear.hpp"
#include "kvant/ranks.hpp"

namespace kvant::detail {

/// y [M, all outputs] from this rank's columns of x. The activations themselves travel, in x's
/// type, then what the ranks made of them, in y's: where devices are connected nothing waits, and
/// one kernel more would cost more than the bytes that codes save.
/// @param own this rank's outputs, of all inputs
/// @throws Error as Linear::forward and Ranks
void forward_on_devices(const char* who, Context& context, Ranks& ranks, const Linear& own,
                        ConstAnyMatrix x, AnyMatrix y, std::span<const std::int64_t> input_widths,
                        std::span<const std::int64_t> output_widths);

}  // namespace kvant::detail
