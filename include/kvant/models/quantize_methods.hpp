#pragma once

/// @file
/// Calibrated quantization of a model's checkpoint: GPTQ, AWQ, SmoothQuant, and rounding with a
/// search, layer by layer, from the statistics of its activations.
///
///     const kvant::models::StatisticsFile statistics("stats.safetensors");
///     const auto result = kvant::models::quantize_by_method(
///         context, "model", "model-gptq", {.method = kvant::models::Method::gptq}, &statistics);

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/methods/group_codes.hpp"
#include "kvant/models/statistics.hpp"

namespace kvant::models {

/// How codes are chosen.
enum class Method : std::uint8_t {
  rtn,          ///< rounded to nearest
  mse,          ///< the same, ranges shrunk to the least error (RangeSearch::mse)
  hqq,          ///< the same, zero points moved (RangeSearch::hqq)
  gptq,         ///< methods::Gptq
  awq,          ///< inputs scaled where the family allows it, ranges clipped
  smoothquant,  ///< activations' range moved into the weights, which become int8
};

/// Its name on the command line, e.g. "gptq".
[[nodiscard]] KVANT_API std::string_view to_string(Method method) noexcept;
/// The method of a name; nothing for others.
[[nodiscard]] KVANT_API std::optional<Method> method_from_name(std::string_view name) noexcept;
/// Whether it reads statistics of activations.
[[nodiscard]] KVANT_API bool needs_statistics(Method method) noexcept;
/// Whether it reads second moments among them.
[[nodiscard]] KVANT_API bool needs_moments(Method method) noexcept;

/// The method and its parameters; all but smoothquant's are for codes in groups.
struct MethodOptions {
  Method method = Method::gptq;
  int bits = 4;             ///< 2, 3, 4 or 8; awq: 4
  std::int64_t group = 64;  ///< a multiple of 32; -1: all inputs of an output
  bool symmetric = false;
  bool act_order = false;                                    ///< gptq: as GptqOptions
  bool static_groups = true;                                 ///< gptq: as GptqOptions
  double damp = 0.01;                                        ///< gptq
  methods::RangeSearch search = methods::RangeSearch::none;  ///< gptq
  double alpha = 0.5;                                        ///< smoothquant
  /// smoothquant: written as compressed-tensors' int8 instead of bitsandbytes'.
  bool compressed_tensors = false;
  /// smoothquant, compressed_tensors: one scale for each layer's activations, from the largest one
  /// that was seen; else each row has its own at run time.
  bool static_activations = false;
};

/// Makes CalibrateOptions measure for this method alone: every block reads what the quantized ones
/// before it made. For methods that scale no inputs.
/// @param skip patterns of layers that stay in float
/// @throws Error invalid_argument (awq, smoothquant)
KVANT_API void calibrate_for(Context& context, const MethodOptions& method,
                             const std::vector<std::string>& skip, CalibrateOptions& options);

/// What became of a layer's outputs on the text that was calibrated with: the error's power as a
/// share of the outputs' own. NaN where there are no second moments.
struct LayerOutcome {
  std::string layer;
  double error_nearest = 0;  ///< rounding to nearest
  double error = 0;          ///< this method
  double scale_ratio = 0;    ///< awq: the power of the inputs' scales; 0: they are not scaled
  std::string notes;
};

/// What quantize_by_method did.
struct MethodSummary {
  io::CheckpointSummary checkpoint;
  std::vector<LayerOutcome> layers;  ///< ascending by name; empty in a dry run
};

/// Writes the folder `output` from the float folder `model`: GPTQ's form (version 2) or, for awq,
/// AWQ's; for smoothquant int8 in bitsandbytes' 8-bit form without outliers, whose activations are
/// quantized row by row, or in that of compressed-tensors. Memory: one layer with its second
/// moments.
/// @param statistics null where the method needs none
/// @param base which layers, dry_run and job; its scheme and form are set here
/// @throws Error as io::quantize_checkpoint; invalid_argument: statistics that are missing, of
///         another model, without second moments, or that lack a layer
KVANT_API MethodSummary quantize_by_method(Context& context, const std::filesystem::path& model,
                                           const std::filesystem::path& output,
                                           const MethodOptions& options,
                                           const StatisticsFile* statistics,
                                           io::QuantizeCheckpointOptions base = {});

}  // namespace kvant::models
