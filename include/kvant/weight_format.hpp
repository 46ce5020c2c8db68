#pragma once

/// @file
/// WeightFormat: how the weight of a linear layer is stored, in memory and in files. One table says
/// everything that can be said without looking at a value; kernels, packed weights, checkpoints and
/// reports all speak of formats by these names. (LLM.int8() is not a format: it is int8_row weights
/// with options for the activations.)

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "kvant/config.hpp"
#include "kvant/dtype.hpp"

namespace kvant {

/// The formats, in the order of their table.
enum class WeightFormat : std::uint8_t {
  float32,
  float16,
  bfloat16,
  int8_row,    ///< a code a weight, one fp32 absmax an output: bitsandbytes' 8-bit weights
  int8_group,  ///< a code a weight, one fp16 scale for 128 neighbours of an output
  int4_group,  ///< codes 0..15, an fp16 scale and a zero point for some neighbours of an output
  nf4,         ///< codes of the 16 quantiles of a normal distribution (arXiv 2305.14314)
  fp4,         ///< codes of 16 four-bit floats, as bitsandbytes has them
};

/// How the weights that share a scale lie.
enum class BlockAxis : std::uint8_t {
  none,       ///< there are no scales
  row,        ///< neighbours within an output's row; the last block of a row may be short
  flattened,  ///< neighbours of the whole weight read row by row; blocks may cross rows
};

/// The real values that codes stand for.
enum class Codebook : std::uint8_t {
  linear,  ///< code * scale; floating formats: the element itself
  nf4,
  fp4,
};

/// What is to be known about a format. Instances may have another block size where the format
/// allows it (see PackedWeights::block, StoredLayer); `block` is what kvant writes by default.
struct WeightFormatInfo {
  WeightFormat format;
  std::string_view name;  ///< as in reports, on the command line and in files
  int bits;               ///< of a code
  DType codes;            ///< of a code, or of the element of a floating format
  Codebook codebook;
  BlockAxis axis;
  std::int64_t block;  ///< weights that share a scale; 0: the whole row (or none share one)
  DType scale;         ///< of a scale in a file; meaningless where axis is none
  bool zero_points;    ///< may have one for each scale
  bool nested;         ///< scales may be quantized themselves

  /// Floating formats: elements without scales.
  [[nodiscard]] constexpr bool is_float() const noexcept { return axis == BlockAxis::none; }
  /// Scales of an [n, k] weight, at this block size (0: a row).
  [[nodiscard]] constexpr std::int64_t scales(std::int64_t n, std::int64_t k,
                                              std::int64_t block_size) const noexcept {
    if (axis == BlockAxis::none) return 0;
    if (axis == BlockAxis::flattened) return (n * k + block_size - 1) / block_size;
    if (block_size == 0) return n;
    return n * ((k + block_size - 1) / block_size);
  }
  /// Scales that the codes of one output refer to: those of its own blocks, and, where blocks may
  /// cross rows, of one that began before.
  [[nodiscard]] constexpr std::int64_t row_scales(std::int64_t k,
                                                  std::int64_t block_size) const noexcept {
    return scales(1, k, block_size) + (axis == BlockAxis::flattened && k > 0 ? 1 : 0);
  }
};

namespace detail {
inline constexpr std::array<WeightFormatInfo, 8> kWeightFormatTable{{
    // format, name, bits, codes, codebook, axis, block, scale, zero points, nested
    {WeightFormat::float32, "fp32", 32, DType::float32, Codebook::linear, BlockAxis::none, 0,
     DType::float32, false, false},
    {WeightFormat::float16, "fp16", 16, DType::float16, Codebook::linear, BlockAxis::none, 0,
     DType::float32, false, false},
    {WeightFormat::bfloat16, "bf16", 16, DType::bfloat16, Codebook::linear, BlockAxis::none, 0,
     DType::float32, false, false},
    {WeightFormat::int8_row, "int8", 8, DType::int8, Codebook::linear, BlockAxis::row, 0,
     DType::float32, false, false},
    {WeightFormat::int8_group, "int8-group", 8, DType::int8, Codebook::linear, BlockAxis::row, 128,
     DType::float16, false, false},
    {WeightFormat::int4_group, "int4", 4, DType::uint4, Codebook::linear, BlockAxis::row, 64,
     DType::float16, true, false},
    {WeightFormat::nf4, "nf4", 4, DType::uint4, Codebook::nf4, BlockAxis::flattened, 64,
     DType::float32, false, true},
    {WeightFormat::fp4, "fp4", 4, DType::uint4, Codebook::fp4, BlockAxis::flattened, 64,
     DType::float32, false, true},
}};
}  // namespace detail

/// How many there are.
inline constexpr std::size_t kWeightFormats = detail::kWeightFormatTable.size();

/// All formats, in the order of the enumeration.
constexpr const auto& weight_format_table() noexcept {
  return detail::kWeightFormatTable;
}

/// The row of a format. Costs nothing.
constexpr const WeightFormatInfo& describe(WeightFormat format) noexcept {
  return detail::kWeightFormatTable[static_cast<std::size_t>(format)];
}

/// Its name, e.g. "int8-group".
constexpr std::string_view to_string(WeightFormat format) noexcept {
  return describe(format).name;
}

/// By its name in the table, e.g. "int8-group"; nothing if there is no such format.
constexpr std::optional<WeightFormat> weight_format_from_name(std::string_view name) noexcept {
  for (const WeightFormatInfo& info : weight_format_table()) {
    if (info.name == name) return info.format;
  }
  return std::nullopt;
}

/// The floating format whose elements have this type; nothing for other types.
constexpr std::optional<WeightFormat> weight_format_of(DType dtype) noexcept {
  for (const WeightFormatInfo& info : weight_format_table()) {
    if (info.is_float() && info.codes == dtype) return info.format;
  }
  return std::nullopt;
}

}  // namespace kvant
