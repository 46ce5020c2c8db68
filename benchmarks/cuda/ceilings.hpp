#pragma once

// What the device itself can do, measured: everything else is shown as a share of it. And random
// data, since zeros run faster.

#include <cstddef>
#include <cstdint>

#include <cuda_runtime.h>

namespace kvant::bench {

/// Fills with codes of a bell shape, -124..124, four to a word.
void fill_codes(void* data, std::size_t bytes, std::uint32_t seed, cudaStream_t stream);
/// Fills with bfloat16 of a bell shape and the given deviation, none beyond four times that.
void fill_bfloat16(void* data, std::size_t count, float deviation, std::uint32_t seed,
                   cudaStream_t stream);

/// Reads all bytes once, 16 at a time.
void stream_read(const void* data, std::size_t bytes, void* sink, cudaStream_t stream);
/// int8 products of operands that lie in shared memory (wgmma on 9.0, mma.sync elsewhere: from
/// registers), with the data's codes. @return their number: multiplications and additions
double multiply_loop(const void* data, int loops, void* sink, cudaStream_t stream);

}  // namespace kvant::bench
