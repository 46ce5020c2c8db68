#pragma once

/// @file
/// The blocks of GGUF files (llama.cpp) that kvant multiplies as they are:
/// PackedWeights::from_blocks takes them, in the weight format that holds the same values.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/weight_format.hpp"

namespace kvant {

/// Types of GGUF whose blocks are multiplied as they are.
enum class GgufBlocks : std::uint8_t { q4_0, q4_1, q5_0, q5_1, q8_0, q4_k, q5_k, q6_k };

/// What is to be known about one.
struct GgufBlocksInfo {
  GgufBlocks type;
  std::string_view name;  ///< in GGUF: "Q4_0"
  std::int64_t elements;  ///< of a block
  std::int64_t bytes;     ///< of a block
  WeightFormat format;    ///< Q4_0 is int4 without zero points, Q8_0 is int8-group, in blocks of 32
};

namespace detail {
inline constexpr std::array<GgufBlocksInfo, 8> kGgufBlocksTable{{
    {GgufBlocks::q4_0, "Q4_0", 32, 18, WeightFormat::int4_group},
    {GgufBlocks::q4_1, "Q4_1", 32, 20, WeightFormat::q4_1},
    {GgufBlocks::q5_0, "Q5_0", 32, 22, WeightFormat::q5_0},
    {GgufBlocks::q5_1, "Q5_1", 32, 24, WeightFormat::q5_1},
    {GgufBlocks::q8_0, "Q8_0", 32, 34, WeightFormat::int8_group},
    {GgufBlocks::q4_k, "Q4_K", 256, 144, WeightFormat::q4_k},
    {GgufBlocks::q5_k, "Q5_K", 256, 176, WeightFormat::q5_k},
    {GgufBlocks::q6_k, "Q6_K", 256, 210, WeightFormat::q6_k},
}};
}  // namespace detail

/// The row of a type. Costs nothing.
constexpr const GgufBlocksInfo& describe(GgufBlocks type) noexcept {
  return detail::kGgufBlocksTable[static_cast<std::size_t>(type)];
}

/// By its name in GGUF; nothing for types whose blocks are not multiplied.
constexpr std::optional<GgufBlocks> gguf_blocks_from_name(std::string_view name) noexcept {
  for (const GgufBlocksInfo& info : detail::kGgufBlocksTable) {
    if (info.name == name) return info.type;
  }
  return std::nullopt;
}

/// The real values of one block as float32, bit for bit as ggml computes them: the bracket first,
/// then the product, then the subtraction, never fused. block: at any alignment, little-endian.
KVANT_API void dequantize_block(GgufBlocks type, const std::byte* block, float* out) noexcept;

}  // namespace kvant
