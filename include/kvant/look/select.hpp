#pragma once

/// @file
/// Which linear layers to quantize under a budget: the smallest model of a given accuracy, or the
/// most accurate one of a given size.
///
///     auto plan = kvant::look::select_schemes("model", kvant::look::parse_budget("40dB"));
///     kvant::io::quantize_checkpoint("model", "model-mixed", to_quantize_options(plan));

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/io/quantize_checkpoint.hpp"
#include "kvant/io/stored_layer.hpp"
#include "kvant/look/budget.hpp"

namespace kvant::look {

/// One way to store a layer.
struct SchemeChoice {
  io::WeightScheme scheme = io::WeightScheme::fp32;
  std::uint64_t bytes = 0;   ///< weight with its scales
  double squared_error = 0;  ///< sum over the weights, against those that are stored
};

/// The choices for one layer, and the one taken.
struct LayerPlan {
  io::StoredLayer layer;
  double signal = 0;                  ///< sum of the squares of the weights
  std::vector<SchemeChoice> choices;  ///< from small to exact; each is more accurate than before
  std::size_t chosen = 0;

  [[nodiscard]] const SchemeChoice& choice() const { return choices[chosen]; }
  /// +inf where the choice is exact.
  [[nodiscard]] double sqnr_db() const;
};

/// The choice for every layer of a checkpoint, and what it comes to.
struct SchemePlan {
  std::string model;
  Budget budget;
  io::WeightScheme quantized = io::WeightScheme::llm_int8;  ///< of the layers that are quantized
  std::vector<LayerPlan> layers;   ///< those that may be quantized, in natural order
  std::uint64_t bytes_before = 0;  ///< of all tensors
  std::uint64_t bytes_after = 0;
  double total_sqnr_db = 0;
  double lowest_sqnr_db = 0;  ///< of the worst layer
};

/// How select_schemes goes about it.
struct SelectOptions {
  int threads = 0;  ///< 0: all
  /// The quantized scheme to propose; one model has one.
  io::WeightScheme quantized = io::WeightScheme::llm_int8;
  /// Bytes of the layers that are done, of how many, and the layer just finished. Called from the
  /// working threads, one call at a time.
  std::function<void(std::uint64_t done, std::uint64_t total, std::string_view layer)> progress = {};
};

/// Tries every layer in every way (quantized as quantize_checkpoint writes it, fp16, bf16, as
/// stored) and chooses: for layer_sqnr the smallest sufficient form of each layer; else
/// all layers begin at their smallest form, and the step that takes away the most squared error for
/// each byte it costs is made again and again, until the budget is met (total_sqnr) or used up
/// (bytes). Memory: a few blocks of rows per thread.
/// @throws FormatError; Error invalid_argument: a budget below the smallest plan, a scheme that
/// does
///         not quantize; unsupported: no
///         linear layers, or a model that is quantized already
[[nodiscard]] KVANT_API SchemePlan select_schemes(const std::filesystem::path& model,
                                                  const Budget& budget,
                                                  const SelectOptions& options = {});

/// The plan as rules: the quantized scheme for all layers (where it is used at all), and a rule for
/// each layer, or each group of layers whose last name is the same, that differs.
[[nodiscard]] KVANT_API io::QuantizeCheckpointOptions to_quantize_options(const SchemePlan& plan);

/// The same as arguments of `kvant quantize`: "--scheme llm-int8 --only '*.c_fc=fp16'"; empty where
/// nothing is to be done.
[[nodiscard]] KVANT_API std::string to_arguments(const SchemePlan& plan);

/// An aligned table with totals.
[[nodiscard]] KVANT_API std::string to_text(const SchemePlan& plan);
/// One JSON object; infinities as the string "inf".
[[nodiscard]] KVANT_API std::string to_json(const SchemePlan& plan);

}  // namespace kvant::look
