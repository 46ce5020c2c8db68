#pragma once

/// @file
/// What each linear layer of a model loses in each format, measured on a text.
///
///     kvant::models::FormatTrials trials(context, files.path(), files.config());
///     const auto found = trials.measure(windows);
///     const auto mix = kvant::models::best_mix(found, budget_bytes);            // mix.hpp
///     const auto ppl = trials.evaluate(ids, 512, formats_of(found, mix));

#include <atomic>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kvant/config.hpp"
#include "kvant/context.hpp"
#include "kvant/models/generate.hpp"
#include "kvant/models/layer_format.hpp"
#include "kvant/models/statistics.hpp"

namespace kvant::models {

/// How a layer's sensitivity is found. All of them speak in nats for each foretold token.
enum class SensitivityMethod : std::uint8_t {
  /// The change of the mean negative log-likelihood of the text when the layer alone is in the
  /// format: a run for each layer and format. Small changes drown in the text's own scatter: it
  /// wants many tokens.
  loss,
  /// The mean Kullback-Leibler divergence of the model's predictions from the float model's when
  /// the layer alone is in the reference format: a run for each layer. What the text says next does
  /// not enter, so that some hundred tokens do. Other formats of the layer are in proportion to
  /// their output errors, since both are quadratic in small errors.
  divergence,
  /// The error of the layer's outputs, |x (w - w')|^2 / |x w|^2 over the text, by second moments of
  /// its inputs; one factor for all layers makes nats of it, so that they sum to the divergence of
  /// the model with every layer in the reference format. No run but for that one.
  output_error,
};

/// "loss", "divergence", "output-error".
[[nodiscard]] KVANT_API std::string_view to_string(SensitivityMethod method) noexcept;
/// By such a name; nothing for others.
[[nodiscard]] KVANT_API std::optional<SensitivityMethod> sensitivity_method_from_name(
    std::string_view name);

/// What a layer loses in a format.
struct FormatSensitivity {
  LayerFormat format;
  std::uint64_t bytes = 0;  ///< bytes_of() the weight
  double output_error = 0;  ///< relative: |x (w - w')|^2 / |x w|^2
  double loss = 0;          ///< nats a token, by the method
  bool measured = false;    ///< by a run of the model; else by proportion
};

/// Of one layer.
struct LayerSensitivity {
  std::string name;  ///< in the model's file
  std::int64_t outputs = 0;
  std::int64_t inputs = 0;
  std::vector<FormatSensitivity> formats;  ///< in the order that was asked for
};

/// Of a model.
struct Sensitivities {
  SensitivityMethod method = SensitivityMethod::divergence;
  LayerFormat reference;    ///< of divergence and output_error
  bool exact = true;        ///< the arithmetic of the runs
  std::int64_t tokens = 0;  ///< that were foretold
  double loss = 0;          ///< mean negative log-likelihood of the floats on them
  std::int64_t runs = 0;    ///< of the model, each from a layer's block on
  std::vector<LayerSensitivity> layers;

  /// Weights of all these layers.
  [[nodiscard]] KVANT_API std::uint64_t elements() const noexcept;
};

/// How FormatTrials::measure goes about it.
struct MeasureOptions {
  SensitivityMethod method = SensitivityMethod::divergence;
  std::vector<LayerFormat> formats =
      {};  ///< none: those of default_mix_formats() that fit the model
  LayerFormat reference = {WeightFormat::int4_group, 64};
  /// Second moments that `kvant calibrate` wrote; null: they are observed on the windows.
  const StatisticsFile* statistics = nullptr;
  /// Steps that are done, of how many, and the layer at work.
  std::function<void(std::int64_t done, std::int64_t total, const std::string& layer)> progress =
      {};
  const std::atomic<bool>* cancel = nullptr;  ///< set: Error cancelled, between two blocks
};

/// A decoder in memory, in float32, any of whose linear layers can be tried in any format.
class KVANT_API FormatTrials {
 public:
  /// Loads the model: 4 bytes a weight, and as much again for what is tried.
  /// @param path a folder or GGUF file; quantized layers are expanded
  /// @param exact weights as the real values that they stand for, activations in float; else as
  ///        `kvant run` multiplies by default
  /// @param progress as LoadOptions::progress
  /// @throws Error as load_model; unsupported: a model that does not continue a text
  FormatTrials(Context& context, const std::filesystem::path& path, const Config& config,
               bool exact = true,
               const std::function<void(std::int64_t, std::int64_t)>& progress = {});
  ~FormatTrials();
  FormatTrials(FormatTrials&&) noexcept;
  FormatTrials& operator=(FormatTrials&&) noexcept;

  /// Names of the layers, in the order in which they run.
  [[nodiscard]] std::vector<std::string> layers() const;

  /// The first layer whose inputs do not fill the format's blocks, where those cannot be short
  /// (GGUF's); nothing: all layers can be in it.
  [[nodiscard]] std::optional<std::string> unfit_layer(LayerFormat format) const;

  /// Bytes of all tensors but the weights of these layers, as the model's files have them.
  [[nodiscard]] std::uint64_t other_bytes() const noexcept;

  /// Every layer by itself in every format. States in front of a block are kept while its layers
  /// are tried, and only what lies behind is run again: by divergence, a layer costs half a run of
  /// the model over the windows on average; by loss, each of its formats does. Memory beside the
  /// model: the states, 4 bytes for each token and feature; but for loss, 4 bytes for each token
  /// and word of the vocabulary too.
  /// @param windows each a text of its own; all ids but a window's first are foretold
  /// @throws Error invalid_argument: no windows, one longer than position_limit(), nothing to
  ///         foretell, a format with an unfit_layer(); not_finite, cancelled; as
  ///         StatisticsFile
  [[nodiscard]] Sensitivities measure(const std::vector<std::vector<TokenId>>& windows,
                                      const MeasureOptions& options = {});

  /// As models::evaluate() of the model with each layer in its format.
  /// @param formats one for each of layers(); empty: all in float
  /// @throws Error as evaluate(); invalid_argument: another number of formats
  [[nodiscard]] Perplexity evaluate(std::span<const TokenId> ids, std::int64_t window,
                                    std::span<const LayerFormat> formats,
                                    const EvaluateOptions& options = {});

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace kvant::models
