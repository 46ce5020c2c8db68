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
  int3_group,  ///< int4_group with codes 0..7
  int2_group,  ///< int4_group with codes 0..3
  fp8_row,     ///< e4m3 elements, one fp32 scale an output
  fp8_block,   ///< e4m3 elements, one fp32 scale for each square of 128 x 128
  mxfp4,       ///< e2m1 elements, a power of two for 32 neighbours of an output (OCP MX 1.0)
  // The blocks of GGUF files (gguf_blocks.hpp): a weight is code * scale + offset.
  q4_1,  ///< codes 0..15, an fp16 scale and an fp16 offset for 32 neighbours
  q5_0,  ///< codes 0..31 for -16..15, an fp16 scale for 32
  q5_1,  ///< codes 0..31, scale and offset as q4_1
  q4_k,  ///< codes 0..15, 6 bits of scale and of offset for 32, times an fp16 each for 256
  q5_k,  ///< codes 0..31, the same
  q6_k,  ///< codes 0..63 for -32..31, 8 bits of scale for 16, times an fp16 for 256
};

/// How the weights that share a scale lie.
enum class BlockAxis : std::uint8_t {
  none,       ///< there are no scales
  row,        ///< neighbours within an output's row; the last block of a row may be short
  flattened,  ///< neighbours of the whole weight read row by row; blocks may cross rows
};

/// How a kernel set's panels hold a format.
enum class PanelKind : std::uint8_t {
  elements,  ///< as they are, scales apart (WeightLayout)
  nibbles,   ///< NibblePanels
  groups,    ///< GroupPanels
};

/// The real values that codes stand for.
enum class Codebook : std::uint8_t {
  linear,  ///< code * scale; floating formats: the element itself
  nf4,
  fp4,
  e2m1,  ///< sign, two bits of exponent, one of mantissa
};

/// What is to be known about a format. Instances may have another block size where the format
/// allows it (see PackedWeights::block, StoredLayer); `block` is what kvant writes by default.
struct WeightFormatInfo {
  WeightFormat format;
  std::string_view name;  ///< as in reports, on the command line and in files
  int bits;               ///< of a code
  DType codes;            ///< of a code (int3: the type above), or of an element
  Codebook codebook;
  BlockAxis axis;
  std::int64_t block;  ///< weights that share a scale; 0: the whole row (or none share one)
  DType scale;         ///< of a scale in a file; meaningless where axis is none
  bool zero_points;    ///< may have one for each scale
  bool nested;         ///< scales may be quantized themselves
  /// Whose kernels multiply it: its own, or those of a format that holds the same values.
  WeightFormat kernels;
  std::int64_t block_rows = 1;     ///< outputs that share a scale in files
  std::int64_t gguf_elements = 0;  ///< of a block of GGUF, and its bytes; 0: not such a format
  std::int64_t gguf_bytes = 0;

  /// Floating formats: elements without scales.
  [[nodiscard]] constexpr bool is_float() const noexcept { return axis == BlockAxis::none; }
  /// Codes that products of integers take, exactly or through a table of integers; all others are
  /// multiplied as the real values that they stand for.
  [[nodiscard]] constexpr bool has_integer_products() const noexcept {
    return !is_float() && codes != DType::float8_e4m3fn;
  }
  /// Made of GGUF's blocks and of nothing else (PackedWeights::from_blocks).
  [[nodiscard]] constexpr bool is_gguf() const noexcept { return gguf_bytes != 0; }
  [[nodiscard]] constexpr PanelKind panels() const noexcept {
    if (kernels == WeightFormat::int8_group) return PanelKind::groups;
    return bits <= 4 ? PanelKind::nibbles : PanelKind::elements;
  }
  /// The kernels' own zero is another: zero points go along even where weights are symmetric.
  [[nodiscard]] constexpr bool needs_zero_points() const noexcept {
    return kernels == WeightFormat::int4_group && kernels != format;
  }
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
inline constexpr std::array<WeightFormatInfo, 19> kWeightFormatTable{{
    // format, name, bits, codes, codebook, axis, block, scale, zero points, nested, kernels, rows,
    // elements and bytes of a GGUF block
    {WeightFormat::float32, "fp32", 32, DType::float32, Codebook::linear, BlockAxis::none, 0,
     DType::float32, false, false, WeightFormat::float32},
    {WeightFormat::float16, "fp16", 16, DType::float16, Codebook::linear, BlockAxis::none, 0,
     DType::float32, false, false, WeightFormat::float16},
    {WeightFormat::bfloat16, "bf16", 16, DType::bfloat16, Codebook::linear, BlockAxis::none, 0,
     DType::float32, false, false, WeightFormat::bfloat16},
    {WeightFormat::int8_row, "int8", 8, DType::int8, Codebook::linear, BlockAxis::row, 0,
     DType::float32, false, false, WeightFormat::int8_row},
    {WeightFormat::int8_group, "int8-group", 8, DType::int8, Codebook::linear, BlockAxis::row, 128,
     DType::float16, false, false, WeightFormat::int8_group},
    {WeightFormat::int4_group, "int4", 4, DType::uint4, Codebook::linear, BlockAxis::row, 64,
     DType::float16, true, false, WeightFormat::int4_group},
    {WeightFormat::nf4, "nf4", 4, DType::uint4, Codebook::nf4, BlockAxis::flattened, 64,
     DType::float32, false, true, WeightFormat::nf4},
    {WeightFormat::fp4, "fp4", 4, DType::uint4, Codebook::fp4, BlockAxis::flattened, 64,
     DType::float32, false, true, WeightFormat::fp4},
    {WeightFormat::int3_group, "int3", 3, DType::uint4, Codebook::linear, BlockAxis::row, 64,
     DType::float16, true, false, WeightFormat::int4_group},
    {WeightFormat::int2_group, "int2", 2, DType::uint2, Codebook::linear, BlockAxis::row, 64,
     DType::float16, true, false, WeightFormat::int4_group},
    {WeightFormat::fp8_row, "fp8", 8, DType::float8_e4m3fn, Codebook::linear, BlockAxis::row, 0,
     DType::float32, false, false, WeightFormat::fp8_row},
    {WeightFormat::fp8_block, "fp8-block", 8, DType::float8_e4m3fn, Codebook::linear,
     BlockAxis::row, 128, DType::float32, false, false, WeightFormat::fp8_block, 128},
    {WeightFormat::mxfp4, "mxfp4", 4, DType::float4_e2m1fn, Codebook::e2m1, BlockAxis::row, 32,
     DType::float8_e8m0fnu, false, false, WeightFormat::int8_group},
    {WeightFormat::q4_1, "q4_1", 4, DType::uint4, Codebook::linear, BlockAxis::row, 32,
     DType::float16, false, false, WeightFormat::int8_group, 1, 32, 20},
    {WeightFormat::q5_0, "q5_0", 5, DType::uint8, Codebook::linear, BlockAxis::row, 32,
     DType::float16, false, false, WeightFormat::int8_group, 1, 32, 22},
    {WeightFormat::q5_1, "q5_1", 5, DType::uint8, Codebook::linear, BlockAxis::row, 32,
     DType::float16, false, false, WeightFormat::int8_group, 1, 32, 24},
    {WeightFormat::q4_k, "q4_k", 4, DType::uint4, Codebook::linear, BlockAxis::row, 32,
     DType::float16, false, true, WeightFormat::int8_group, 1, 256, 144},
    {WeightFormat::q5_k, "q5_k", 5, DType::uint8, Codebook::linear, BlockAxis::row, 32,
     DType::float16, false, true, WeightFormat::int8_group, 1, 256, 176},
    {WeightFormat::q6_k, "q6_k", 6, DType::uint8, Codebook::linear, BlockAxis::row, 16,
     DType::float16, false, true, WeightFormat::int8_group, 1, 256, 210},
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
