#pragma once

// Weights in GroupPanels for tests: random blocks of GGUF, and what any such weights mean, taken
// from their plain rows.

#include <cstring>
#include <random>
#include <vector>

#include "formats/gguf_blocks.hpp"
#include "kvant/codebook.hpp"
#include "kvant/float16.hpp"
#include "ops/linear/packed_state.hpp"
#include "support/random.hpp"

namespace kvant::test {

/// Rows of blocks whose bytes are random but for their halves, which are numbers near 0.1.
inline std::vector<std::byte> random_blocks(std::mt19937_64& generator, GgufBlocks type,
                                            std::int64_t n, std::int64_t k) {
  const GgufBlocksInfo& info = describe(type);
  std::vector<std::byte> bytes(static_cast<std::size_t>(n * (k / info.elements) * info.bytes));
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(generator() & 255);
  detail::GgufBlock block;
  for (std::size_t at = 0; at < bytes.size(); at += static_cast<std::size_t>(info.bytes)) {
    detail::read_block(type, bytes.data() + at, block);
    const auto half = [&] {
      return float16(static_cast<float>(generator() % 2001) * 1e-4f - 0.1f).bits;
    };
    block.scale = half();
    block.offset = half();
    detail::write_block(type, block, bytes.data() + at);
  }
  return bytes;
}

/// A weight as integers and floats: (integer) * scale + offset.
struct GroupedRow {
  std::vector<int> integers;   ///< [k]
  std::vector<float> scales;   ///< [k]
  std::vector<float> offsets;  ///< [k], or empty
  std::int64_t group;
};

inline GroupedRow grouped_row(const PackedWeights::State& w, std::int64_t row) {
  const auto count = static_cast<std::size_t>(w.k);
  GroupedRow r{std::vector<int>(count), std::vector<float>(count), {}, 0};
  std::vector<std::byte> plain(static_cast<std::size_t>(w.row_bytes()));
  w.unpack_row(row, plain.data());
  const WeightFormatInfo& info = describe(w.format);
  if (!info.is_gguf()) {
    const bool e2m1 = w.format == WeightFormat::mxfp4;
    r.group = std::min(w.block, (w.k + 63) / 64 * 64);
    std::vector<float> scales(static_cast<std::size_t>(w.row_scales()));
    w.unpack_scales(row, scales.data(), nullptr);
    for (std::size_t k = 0; k < count; ++k) {
      const float scale = scales[k / static_cast<std::size_t>(w.block)];
      r.scales[k] = e2m1 ? scale * 0.5f : scale;
      r.integers[k] = e2m1 ? kE2m1.integer[std::to_integer<std::size_t>(plain[k])] - kE2m1.zero
                           : static_cast<std::int8_t>(plain[k]);
    }
    return r;
  }
  const GgufBlocks type = detail::blocks_of(w.format);
  const detail::GgufBlockForm form = detail::form_of(type);
  r.group = form.group;
  if (form.offsets) r.offsets.resize(count);
  detail::GgufBlock block;
  for (std::size_t k = 0; k < count; ++k) {
    const std::size_t in_block = k % static_cast<std::size_t>(info.gguf_elements);
    if (in_block == 0) {
      const std::size_t at = k / static_cast<std::size_t>(info.gguf_elements) *
                             static_cast<std::size_t>(info.gguf_bytes);
      detail::read_block(type, plain.data() + at, block);
    }
    const std::size_t group = in_block / static_cast<std::size_t>(form.group);
    const auto d = static_cast<float>(float16::from_bits(block.scale));
    const auto m = static_cast<float>(float16::from_bits(block.offset));
    const int factor = form.factors == 1 ? static_cast<std::int8_t>(block.factors[0][group])
                                         : block.factors[0][group];
    r.integers[k] = block.codes[in_block] - form.zero;
    r.scales[k] = form.factors == 0 ? d : d * static_cast<float>(factor);
    if (form.offsets) {
      r.offsets[k] = form.factors == 0 ? m : m * static_cast<float>(block.factors[1][group]);
    }
  }
  return r;
}

}  // namespace kvant::test
