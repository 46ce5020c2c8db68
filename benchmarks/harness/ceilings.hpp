#pragma once

// Ceilings, measured and not assumed: how fast this core runs the multiply instruction of a kernel
// set on registers, and how fast it reads memory.

#include <cstdint>
#include <string_view>

namespace kvant::bench {

/// Runs `steps` steps of the ceiling loop of a kernel set: the multiplication and what it needs to
/// be summed into int32, on registers, with enough independent accumulators. Returns something that
/// depends on all of them. The number of useful operations (2 per product) of a step:
std::int64_t ceiling_operations_per_step(std::string_view isa);
std::int64_t run_ceiling(std::string_view isa, std::int64_t steps);
/// What the loop multiplies with, e.g. "vpdpbusd".
std::string_view ceiling_name(std::string_view isa);

/// Reads bytes [data, data + size) once with `streams` streams of vector loads; the sum keeps the
/// loads alive. Uses the widest loads that the processor has.
std::uint64_t read_stream(const void* data, std::int64_t size, int streams, bool prefetch);

}  // namespace kvant::bench
