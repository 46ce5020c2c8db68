#pragma once

// A block of GGUF taken apart and put together: codes and what they are multiplied by.

#include <cstddef>
#include <cstdint>

#include "kvant/gguf_blocks.hpp"

namespace kvant::detail {

/// A weight is (code - zero) * (scale * factor of its group) + offset * factor of its group; the
/// factors are 1 but in the K types.
struct GgufBlock {
  std::uint16_t scale;          ///< fp16 bits
  std::uint16_t offset;         ///< the same; of K types the minimum negated
  std::uint8_t factors[2][16];  ///< of scale (Q6_K: signed) and offset
  std::uint8_t codes[256];      ///< Q8_0: int8
};

/// What its fields mean.
struct GgufBlockForm {
  int zero;
  bool offsets;
  int factors;         ///< kinds of them: 0; 1, signed; 2, unsigned
  std::int64_t group;  ///< codes that share them
};
GgufBlockForm form_of(GgufBlocks type) noexcept;

/// The type whose blocks a format is made of; format: one for which is_gguf().
GgufBlocks blocks_of(WeightFormat format) noexcept;

void read_block(GgufBlocks type, const std::byte* from, GgufBlock& block) noexcept;
void write_block(GgufBlocks type, const GgufBlock& block, std::byte* to) noexcept;

/// Scale and offset are neither NaN nor infinite.
bool is_finite(GgufBlocks type, const std::byte* block) noexcept;

}  // namespace kvant::detail
