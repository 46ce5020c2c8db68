// The blocks of GGUF: q4_1, q5_0, q5_1, q4_k, q5_k, q6_k, which are formats of their own, and Q4_0
// and Q8_0, whose values int4 and int8-group hold. They come from files: nothing is encoded here.

#include "formats/gguf_blocks.hpp"

#include <algorithm>
#include <cstring>

#include "formats/rules.hpp"
#include "kvant/float16.hpp"

namespace kvant {
namespace detail {
namespace {

int byte_at(const std::byte* from, int at) noexcept {
  return std::to_integer<int>(from[at]);
}

/// Fields are little-endian on every machine.
std::uint16_t half_at(const std::byte* from, int at) noexcept {
  return static_cast<std::uint16_t>(byte_at(from, at) | byte_at(from, at + 1) << 8);
}
void put_half(std::byte* to, int at, std::uint16_t bits) noexcept {
  to[at] = static_cast<std::byte>(bits & 255);
  to[at + 1] = static_cast<std::byte>(bits >> 8);
}

/// 32 codes whose halves are the halves of 16 bytes.
void read_nibbles(const std::byte* from, std::uint8_t* codes) noexcept {
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<std::uint8_t>(byte_at(from, i % 16) >> (i / 16 * 4) & 15);
  }
}
void write_nibbles(const std::uint8_t* codes, std::byte* to) noexcept {
  for (int i = 0; i < 16; ++i) {
    to[i] = static_cast<std::byte>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
  }
}

/// The fifth bits of 32 codes, in 4 bytes.
void read_fifth_bits(const std::byte* from, std::uint8_t* codes) noexcept {
  for (int i = 0; i < 32; ++i) {
    codes[i] = static_cast<std::uint8_t>(codes[i] | (byte_at(from, i / 8) >> (i % 8) & 1) << 4);
  }
}
void write_fifth_bits(const std::uint8_t* codes, std::byte* to) noexcept {
  for (int byte = 0; byte < 4; ++byte) {
    int bits = 0;
    for (int i = 0; i < 8; ++i) bits |= (codes[8 * byte + i] >> 4 & 1) << i;
    to[byte] = static_cast<std::byte>(bits);
  }
}

/// Q4_K and Q5_K: 6 bits for each of 8 scales and 8 minimums in 12 bytes.
void read_six_bits(const std::byte* from, GgufBlock& block) noexcept {
  for (int k = 0; k < 8; ++k) {
    const int scale = k < 4 ? byte_at(from, k) & 63
                            : (byte_at(from, k + 4) & 15) | (byte_at(from, k - 4) >> 6) << 4;
    const int minimum = k < 4 ? byte_at(from, k + 4) & 63
                              : (byte_at(from, k + 4) >> 4) | (byte_at(from, k) >> 6) << 4;
    block.factors[0][k] = static_cast<std::uint8_t>(scale);
    block.factors[1][k] = static_cast<std::uint8_t>(minimum);
  }
}
void write_six_bits(const GgufBlock& block, std::byte* to) noexcept {
  const auto& scales = block.factors[0];
  const auto& minimums = block.factors[1];
  for (int k = 0; k < 4; ++k) {
    to[k] = static_cast<std::byte>(scales[k] | (scales[k + 4] >> 4) << 6);
    to[k + 4] = static_cast<std::byte>(minimums[k] | (minimums[k + 4] >> 4) << 6);
    to[k + 8] = static_cast<std::byte>((scales[k + 4] & 15) | (minimums[k + 4] & 15) << 4);
  }
}

/// Q4_K and Q5_K: 32 codes in the low halves of 32 bytes, the next 32 in the high ones.
void read_wide_nibbles(const std::byte* from, std::uint8_t* codes) noexcept {
  for (int i = 0; i < 256; ++i) {
    codes[i] =
        static_cast<std::uint8_t>(byte_at(from, i / 64 * 32 + i % 32) >> (i / 32 % 2 * 4) & 15);
  }
}
void write_wide_nibbles(const std::uint8_t* codes, std::byte* to) noexcept {
  for (int i = 0; i < 128; ++i) {
    const std::uint8_t* const pair = codes + i / 32 * 64 + i % 32;
    to[i] = static_cast<std::byte>((pair[0] & 15) | (pair[32] & 15) << 4);
  }
}

/// Q6_K: where code i has its low and its high bits.
struct SixBits {
  explicit SixBits(int i) noexcept
      : low(i / 128 * 64 + i % 64),
        low_shift(i % 128 / 64 * 4),
        high(128 + i / 128 * 32 + i % 32),
        high_shift(i % 128 / 32 * 2) {}
  int low, low_shift, high, high_shift;
};

constexpr std::uint16_t kSign = 0x8000;

}  // namespace

GgufBlockForm form_of(GgufBlocks type) noexcept {
  switch (type) {
    case GgufBlocks::q4_0: return {8, false, 0, 32};
    case GgufBlocks::q4_1: return {0, true, 0, 32};
    case GgufBlocks::q5_0: return {16, false, 0, 32};
    case GgufBlocks::q5_1: return {0, true, 0, 32};
    case GgufBlocks::q8_0: return {0, false, 0, 32};
    case GgufBlocks::q4_k: return {0, true, 2, 32};
    case GgufBlocks::q5_k: return {0, true, 2, 32};
    case GgufBlocks::q6_k: break;
  }
  return {32, false, 1, 16};
}

GgufBlocks blocks_of(WeightFormat format) noexcept {
  for (const GgufBlocksInfo& info : kGgufBlocksTable) {
    if (info.format == format) return info.type;
  }
  return GgufBlocks::q4_0;
}

void read_block(GgufBlocks type, const std::byte* from, GgufBlock& block) noexcept {
  block.scale = half_at(from, type == GgufBlocks::q6_k ? 208 : 0);
  block.offset = form_of(type).offsets ? half_at(from, 2) : std::uint16_t{0};
  switch (type) {
    case GgufBlocks::q4_0: read_nibbles(from + 2, block.codes); break;
    case GgufBlocks::q4_1: read_nibbles(from + 4, block.codes); break;
    case GgufBlocks::q5_0:
      read_nibbles(from + 6, block.codes);
      read_fifth_bits(from + 2, block.codes);
      break;
    case GgufBlocks::q5_1:
      read_nibbles(from + 8, block.codes);
      read_fifth_bits(from + 4, block.codes);
      break;
    case GgufBlocks::q8_0: std::memcpy(block.codes, from + 2, 32); break;
    case GgufBlocks::q4_k:
    case GgufBlocks::q5_k:
      block.offset ^= kSign;
      read_six_bits(from + 4, block);
      read_wide_nibbles(from + (type == GgufBlocks::q4_k ? 16 : 48), block.codes);
      for (int i = 0; i < 256 && type == GgufBlocks::q5_k; ++i) {
        const int fifth = byte_at(from, 16 + i % 32) >> (i / 32) & 1;
        block.codes[i] = static_cast<std::uint8_t>(block.codes[i] | fifth << 4);
      }
      break;
    case GgufBlocks::q6_k:
      std::memcpy(block.factors[0], from + 192, 16);
      for (int i = 0; i < 256; ++i) {
        const SixBits at(i);
        const int low = byte_at(from, at.low) >> at.low_shift & 15;
        const int high = byte_at(from, at.high) >> at.high_shift & 3;
        block.codes[i] = static_cast<std::uint8_t>(low | high << 4);
      }
      break;
  }
}

void write_block(GgufBlocks type, const GgufBlock& block, std::byte* to) noexcept {
  std::fill_n(to, describe(type).bytes, std::byte{0});
  put_half(to, type == GgufBlocks::q6_k ? 208 : 0, block.scale);
  if (form_of(type).offsets) put_half(to, 2, block.offset);
  switch (type) {
    case GgufBlocks::q4_0: write_nibbles(block.codes, to + 2); break;
    case GgufBlocks::q4_1: write_nibbles(block.codes, to + 4); break;
    case GgufBlocks::q5_0:
      write_fifth_bits(block.codes, to + 2);
      write_nibbles(block.codes, to + 6);
      break;
    case GgufBlocks::q5_1:
      write_fifth_bits(block.codes, to + 4);
      write_nibbles(block.codes, to + 8);
      break;
    case GgufBlocks::q8_0: std::memcpy(to + 2, block.codes, 32); break;
    case GgufBlocks::q4_k:
    case GgufBlocks::q5_k:
      put_half(to, 2, block.offset ^ kSign);
      write_six_bits(block, to + 4);
      write_wide_nibbles(block.codes, to + (type == GgufBlocks::q4_k ? 16 : 48));
      for (int i = 0; i < 256 && type == GgufBlocks::q5_k; ++i) {
        to[16 + i % 32] |= static_cast<std::byte>((block.codes[i] >> 4 & 1) << (i / 32));
      }
      break;
    case GgufBlocks::q6_k:
      std::memcpy(to + 192, block.factors[0], 16);
      for (int i = 0; i < 256; ++i) {
        const SixBits at(i);
        to[at.low] |= static_cast<std::byte>((block.codes[i] & 15) << at.low_shift);
        to[at.high] |= static_cast<std::byte>((block.codes[i] >> 4 & 3) << at.high_shift);
      }
      break;
  }
}

bool is_finite(GgufBlocks type, const std::byte* block) noexcept {
  const auto finite = [&](int at) { return (half_at(block, at) & 0x7C00) != 0x7C00; };
  return finite(type == GgufBlocks::q6_k ? 208 : 0) && (!form_of(type).offsets || finite(2));
}

namespace {

template <GgufBlocks kType>
void decode(const std::byte* codes, const RowScales&, std::int64_t k, float* to) noexcept {
  const GgufBlocksInfo& info = describe(kType);
  for (std::int64_t i = 0; i < k; i += info.elements, codes += info.bytes) {
    dequantize_block(kType, codes, to + i);
  }
}

template <GgufBlocks kType>
constexpr FormatRules kRules = {describe(kType).format, nullptr, &decode<kType>};

}  // namespace

const FormatRules& q4_1_rules() noexcept {
  return kRules<GgufBlocks::q4_1>;
}
const FormatRules& q5_0_rules() noexcept {
  return kRules<GgufBlocks::q5_0>;
}
const FormatRules& q5_1_rules() noexcept {
  return kRules<GgufBlocks::q5_1>;
}
const FormatRules& q4_k_rules() noexcept {
  return kRules<GgufBlocks::q4_k>;
}
const FormatRules& q5_k_rules() noexcept {
  return kRules<GgufBlocks::q5_k>;
}
const FormatRules& q6_k_rules() noexcept {
  return kRules<GgufBlocks::q6_k>;
}

}  // namespace detail

void dequantize_block(GgufBlocks type, const std::byte* from, float* out) noexcept {
  detail::GgufBlock block;
  detail::read_block(type, from, block);
  const detail::GgufBlockForm form = detail::form_of(type);
  const auto d = static_cast<float>(float16::from_bits(block.scale));
  const auto minimum = static_cast<float>(float16::from_bits(block.offset));
  const bool is_signed = type == GgufBlocks::q8_0;
  const auto groups = static_cast<int>(describe(type).elements / form.group);
  const auto length = static_cast<int>(form.group);
  for (int group = 0; group < groups; ++group) {
    float scale = d;
    float offset = minimum;
    if (form.factors == 1) {
      scale *= static_cast<float>(static_cast<std::int8_t>(block.factors[0][group]));
    } else if (form.factors == 2) {
      scale *= static_cast<float>(block.factors[0][group]);
      offset *= static_cast<float>(block.factors[1][group]);
    }
    const std::uint8_t* const codes = block.codes + group * length;
    for (int i = 0; i < length; ++i) {
      const int code = is_signed ? static_cast<std::int8_t>(codes[i]) : codes[i] - form.zero;
      const float product = static_cast<float>(code) * scale;
      out[group * length + i] = form.offsets ? product + offset : product;
    }
  }
}

}  // namespace kvant
