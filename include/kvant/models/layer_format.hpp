#pragma once

/// @file
/// Formats layer by layer: what a plan gives each linear layer of one model, and the file that
/// carries it from `kvant select --measure` to `kvant run --plan` and `kvant quantize --plan`.

#include <compare>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/activation_options.hpp"
#include "kvant/config.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/weight_format.hpp"

namespace kvant::models {

/// A weight format and how many weights share a scale there. int8 (a scale an output) is multiplied
/// as LLM.int8(), outlier features in floating point, unless the arithmetic is another.
struct LayerFormat {
  WeightFormat format = WeightFormat::float32;  ///< float32: the layer stays in float
  std::int64_t group = 0;  ///< 0 where the format lets nothing choose (takes_groups())

  constexpr auto operator<=>(const LayerFormat&) const = default;
};

/// Whether weights in this format are in groups whose size is chosen: int8-group, int4, int3, int2,
/// nf4, fp4.
[[nodiscard]] KVANT_API bool takes_groups(WeightFormat format) noexcept;
/// Whether a format's groups may be of that size: a multiple of 32, in nf4 and fp4 a power of two
/// up to 4096; 0 in formats without such groups.
[[nodiscard]] KVANT_API bool is_group_of(WeightFormat format, std::int64_t group) noexcept;

/// "int4:64", "fp8".
[[nodiscard]] KVANT_API std::string to_string(LayerFormat format);
/// By such a name; "int4" alone has the format's own group. Nothing for others, and for GGUF's
/// blocks of 256 (those of 32, q4_1, q5_0 and q5_1, are formats here: GGUF's reference quantizers
/// make them, of layers whose inputs are a multiple of 32).
[[nodiscard]] KVANT_API std::optional<LayerFormat> layer_format_from_name(std::string_view name);
/// What mixes are made of by default: int2, int3, int4 and int8-group in the groups that make
/// different sizes, q4_1 and q5_0 between them, and fp16.
[[nodiscard]] KVANT_API const std::vector<LayerFormat>& default_mix_formats();

/// Bytes of the weight [outputs, inputs] of a layer: codes, scales and zero points, the last byte
/// of each filled up.
[[nodiscard]] KVANT_API std::uint64_t bytes_of(LayerFormat format, std::int64_t outputs,
                                               std::int64_t inputs) noexcept;

/// A format for each of some layers.
struct FormatPlan {
  std::map<std::string, LayerFormat> layers;  ///< by the names in the model's file
  /// The arithmetic that the formats were chosen by; nothing: it was not noted.
  std::optional<Arithmetic> arithmetic = {};
  std::map<std::string, std::string> notes = {};  ///< what people may want to know of it
};

/// One JSON object: {"kvant_format_plan": 1, "arithmetic": "exact", "notes": {...}, "layers":
/// {"model.layers.0.mlp.up_proj": "int4:64", ...}}.
[[nodiscard]] KVANT_API std::string to_json(const FormatPlan& plan);
/// @throws Error io; FormatError: no JSON; invalid_file: no such plan, a format that is unknown
[[nodiscard]] KVANT_API FormatPlan read_format_plan(const std::filesystem::path& file);

/// The plan as rules for quantize_checkpoint(): config.json describes one quantization, so that the
/// layers may be in one quantized format (and one group) beside floats.
/// @throws Error unsupported: several, with what holds such mixes; a format that no checkpoint has
[[nodiscard]] KVANT_API io::QuantizeCheckpointOptions to_quantize_options(const FormatPlan& plan);

}  // namespace kvant::models
