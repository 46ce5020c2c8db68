// GroupPanels, filled and read back: codes a byte each with scales beside them, or blocks of GGUF.
// Four codes at a time as the bytes of a word, whatever the byte order: no bit leaves its byte.

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "formats/gguf_blocks.hpp"
#include "kvant/context.hpp"
#include "kvant/float_element.hpp"
#include "ops/linear/packed_state.hpp"
#include "ops/support/border.hpp"
#include "ops/support/parallel.hpp"
#include "ops/support/validate.hpp"

namespace kvant {

using namespace detail;

GroupPanels PackedWeights::State::groups() const noexcept {
  const WeightFormatInfo& info = describe(format);
  GroupPanels w;
  w.nr = layout().nr;
  w.align = layout().align;
  w.k_padded = k_padded;
  w.unit = w.group = group;
  w.bits = info.bits;
  if (info.is_gguf()) {
    const GgufBlockForm form = form_of(blocks_of(format));
    w.unit = info.gguf_elements;
    w.zero = form.zero;
    w.offsets = form.offsets;
    w.factors = form.factors;
  } else if (info.codebook == Codebook::e2m1) {
    w.zero = 12;                // kE2m1's
    w.scale = DType::bfloat16;  // every power of two, and NaN
    w.factor = 0.5f;
    w.e2m1 = true;
  } else if (wide_scales) {
    w.scale = DType::float32;
  }
  return w;
}

namespace {

constexpr std::uint32_t kLowBits = 0x0F0F0F0Fu;

std::uint32_t word_at(const std::byte* from) noexcept {
  std::uint32_t word;
  std::memcpy(&word, from, sizeof(word));
  return word;
}
void put_word(std::byte* to, std::uint32_t word) noexcept {
  std::memcpy(to, &word, sizeof(word));
}

/// Codes k to k + count (a multiple of 4) of an output, all in one unit.
void put_codes(const GroupPanels& w, std::byte* panel, std::int64_t output, std::int64_t k,
               const std::byte* codes, std::int64_t count) noexcept {
  const std::int64_t line = w.nr * 4;
  std::byte* low = panel + w.low_at(output, k);
  if (w.bits == 8) {
    for (std::int64_t i = 0; i < count; i += 4, low += line) put_word(low, word_at(codes + i));
    return;
  }
  for (std::int64_t i = 0; i < count; i += 8, low += line) {
    put_word(low, (word_at(codes + i) & kLowBits) | (word_at(codes + i + 4) & kLowBits) << 4);
  }
  if (w.bits == 4) return;
  const std::int64_t together = w.bits == 5 ? 32 : 16;  // codes whose high bits share a word
  const std::uint32_t mask = w.bits == 5 ? 0x01010101u : 0x03030303u;
  std::byte* high = panel + w.high_at(output, k);
  for (std::int64_t i = 0; i < count; i += together, high += line) {
    std::uint32_t word = 0;
    for (std::int64_t j = 0; j < together; j += 4) {
      word |= (word_at(codes + i + j) >> 4 & mask) << w.high_shift(j);
    }
    put_word(high, word);
  }
}

void take_codes(const GroupPanels& w, const std::byte* panel, std::int64_t output, std::int64_t k,
                std::byte* codes, std::int64_t count) noexcept {
  const std::int64_t line = w.nr * 4;
  const std::byte* low = panel + w.low_at(output, k);
  if (w.bits == 8) {
    for (std::int64_t i = 0; i < count; i += 4, low += line) put_word(codes + i, word_at(low));
    return;
  }
  for (std::int64_t i = 0; i < count; i += 8, low += line) {
    put_word(codes + i, word_at(low) & kLowBits);
    put_word(codes + i + 4, word_at(low) >> 4 & kLowBits);
  }
  if (w.bits == 4) return;
  const std::int64_t together = w.bits == 5 ? 32 : 16;
  const std::uint32_t mask = w.bits == 5 ? 0x01010101u : 0x03030303u;
  const std::byte* high = panel + w.high_at(output, k);
  for (std::int64_t i = 0; i < count; i += together, high += line) {
    for (std::int64_t j = 0; j < together; j += 4) {
      const std::uint32_t bits = word_at(high) >> w.high_shift(j) & mask;
      put_word(codes + i + j, word_at(codes + i + j) | bits << 4);
    }
  }
}

/// A block of GGUF to its place, and back.
void put_block(const GroupPanels& w, std::byte* panel, std::int64_t output, std::int64_t k,
               const GgufBlock& block) noexcept {
  std::byte* const unit = panel + w.unit_at(k);
  std::memcpy(unit + output * 2, &block.scale, 2);
  if (w.offsets) std::memcpy(unit + w.offsets_at() + output * 2, &block.offset, 2);
  for (std::int64_t group = 0; group < w.unit / w.group; ++group) {
    for (int which = 0; which < w.factors; ++which) {
      unit[w.factors_at(group, which) + output] = std::byte{block.factors[which][group]};
    }
  }
  put_codes(w, panel, output, k, reinterpret_cast<const std::byte*>(block.codes), w.unit);
}

void take_block(const GroupPanels& w, const std::byte* panel, std::int64_t output, std::int64_t k,
                GgufBlock& block) noexcept {
  const std::byte* const unit = panel + w.unit_at(k);
  std::memcpy(&block.scale, unit + output * 2, 2);
  block.offset = 0;
  if (w.offsets) std::memcpy(&block.offset, unit + w.offsets_at() + output * 2, 2);
  for (std::int64_t group = 0; group < w.unit / w.group; ++group) {
    for (int which = 0; which < w.factors; ++which) {
      block.factors[which][group] =
          std::to_integer<std::uint8_t>(unit[w.factors_at(group, which) + output]);
    }
  }
  take_codes(w, panel, output, k, reinterpret_cast<std::byte*>(block.codes), w.unit);
}

}  // namespace

void PackedWeights::State::unpack_group_codes(std::int64_t row, std::byte* to) const noexcept {
  const GroupPanels w = groups();
  const std::byte* const panel = codes.data() + row / w.nr * w.panel_bytes();
  std::byte piece[32];
  for (std::int64_t at = 0; at < k; at += 32) {  // units are multiples of 32
    take_codes(w, panel, row % w.nr, at, piece, 32);
    std::memcpy(to + at, piece, static_cast<std::size_t>(std::min<std::int64_t>(32, k - at)));
  }
}

void PackedWeights::State::unpack_group_scales(std::int64_t row, float* to) const noexcept {
  if (row_scales() == 0) return;
  const GroupPanels w = groups();
  const std::byte* const panel = codes.data() + row / w.nr * w.panel_bytes();
  for (std::int64_t at = 0; at < k; at += w.unit) {
    *to++ = load_element(panel + w.unit_at(at), w.scale, row % w.nr);
  }
}

void PackedWeights::State::unpack_blocks(std::int64_t row, std::byte* to) const noexcept {
  const GroupPanels w = groups();
  const std::byte* const panel = codes.data() + row / w.nr * w.panel_bytes();
  GgufBlock values;
  for (std::int64_t at = 0; at < k; at += w.unit, to += describe(format).gguf_bytes) {
    take_block(w, panel, row % w.nr, at, values);
    write_block(blocks_of(format), values, to);
  }
}

namespace detail {

void PackedWeightsBuilder::pack_groups(std::int64_t panel, const std::byte* codes,
                                       std::int64_t rows, std::ptrdiff_t stride) noexcept {
  const PackedWeights::State& s = *state_;
  const GroupPanels w = s.groups();
  std::byte* const to = codes_ + panel * w.panel_bytes();
  std::memset(to, 0, static_cast<std::size_t>(w.panel_bytes()));
  const WeightFormatInfo& info = describe(s.format);
  GgufBlock block;
  std::byte piece[32];
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::byte* from = codes + r * stride;
    if (info.is_gguf()) {
      for (std::int64_t k = 0; k < s.k; k += w.unit, from += info.gguf_bytes) {
        read_block(blocks_of(s.format), from, block);
        put_block(w, to, r, k, block);
      }
      continue;
    }
    for (std::int64_t k = 0; k < s.k; k += 32) {
      const auto count = static_cast<std::size_t>(std::min<std::int64_t>(32, s.k - k));
      std::memset(piece, 0, sizeof(piece));
      std::memcpy(piece, from + k, count);
      put_codes(w, to, r, k, piece, 32);
    }
  }
}

void PackedWeightsBuilder::set_group_scales(std::int64_t row, const float* scales) noexcept {
  const PackedWeights::State& s = *state_;
  if (s.row_scales() == 0) return;
  const GroupPanels w = s.groups();
  std::byte* const panel = codes_ + row / w.nr * w.panel_bytes();
  for (std::int64_t k = 0; k < s.k; k += w.unit) {
    store_element(panel + w.unit_at(k), w.scale, row % w.nr, *scales++);
  }
}

}  // namespace detail

namespace {

constexpr const char* kWho = "PackedWeights::from_blocks";

/// Q4_0 and Q8_0: their codes, a byte each, and scales.
void expand(GgufBlocks type, const std::byte* from, std::int64_t k, std::byte* codes,
            float* scales) noexcept {
  const GgufBlocksInfo& info = describe(type);
  GgufBlock block;
  for (std::int64_t at = 0; at < k; at += info.elements, from += info.bytes) {
    read_block(type, from, block);
    std::memcpy(codes + at, block.codes, static_cast<std::size_t>(info.elements));
    *scales++ = static_cast<float>(float16::from_bits(block.scale));
  }
}

void check_finite(GgufBlocks type, std::int64_t n, std::int64_t k,
                  std::span<const std::byte> blocks) {
  const GgufBlocksInfo& info = describe(type);
  const std::int64_t in_row = k / info.elements;
  for (std::int64_t i = 0; i < n * in_row; ++i) {
    if (is_finite(type, blocks.data() + i * info.bytes)) continue;
    fail(ErrorCode::invalid_argument, std::string(kWho) + ": block " + std::to_string(i % in_row) +
                                          " of row " + std::to_string(i / in_row) +
                                          " has a scale that is NaN or infinite");
  }
}

}  // namespace

PackedWeights PackedWeights::from_blocks(Context& context, GgufBlocks type, std::int64_t n,
                                         std::int64_t k, std::span<const std::byte> blocks) {
  return at_border(kWho, [&] {
    const GgufBlocksInfo& info = describe(type);
    if (n < 0 || k < 0 || k % info.elements != 0) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": " + shape_text(n, k) + " is not in " +
                                          std::string(info.name) + " blocks of " +
                                          std::to_string(info.elements));
    }
    const std::int64_t row_bytes = k / info.elements * info.bytes;
    const auto given = static_cast<std::int64_t>(blocks.size());
    if (row_bytes == 0 || n == 0 ? given != 0 : given % row_bytes != 0 || given / row_bytes != n) {
      fail(ErrorCode::shape_mismatch, std::string(kWho) + ": " + std::to_string(given) +
                                          " bytes for " + shape_text(n, k) + " in " +
                                          std::string(info.name) + " blocks");
    }
    check_finite(type, n, k, blocks);
    const bool own = describe(info.format).is_gguf();
    const std::int64_t block = own ? describe(info.format).block : info.elements;
    PackedWeightsBuilder builder(kWho, context.kernels(), info.format, n, k, block);
    const std::int64_t nr = builder.state().layout().nr;
    parallel(context, builder.state().layout().panels(n), n * k,
             [&](std::int64_t begin, std::int64_t end) {
               std::vector<std::byte> codes(own ? 0 : static_cast<std::size_t>(nr * k));
               std::vector<float> scales(static_cast<std::size_t>(own ? 0 : nr * (k / block)));
               for (std::int64_t first = begin * nr; first < std::min(end * nr, n); first += nr) {
                 const std::int64_t rows = std::min(nr, n - first);
                 const std::byte* const from = blocks.data() + first * row_bytes;
                 if (own) {
                   builder.pack_rows(first, from, rows, row_bytes);
                   continue;
                 }
                 for (std::int64_t r = 0; r < rows; ++r) {
                   expand(type, from + r * row_bytes, k, codes.data() + r * k,
                          scales.data() + r * (k / block));
                 }
                 builder.pack_rows(first, codes.data(), rows, k);
                 for (std::int64_t r = 0; r < rows; ++r) {
                   builder.set_scales(first + r, scales.data() + r * (k / block), nullptr);
                 }
               }
             });
    return PackedWeights(State::placed(context, builder.finish()));
  });
}

}  // namespace kvant
