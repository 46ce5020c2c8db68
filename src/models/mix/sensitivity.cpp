// Sensitivities: each layer by itself in each format, block by block.

#include "kvant/models/sensitivity.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/methods/gram.hpp"
#include "models/calibrate/observed_block.hpp"
#include "models/mix/predictions.hpp"
#include "models/mix/trial_model.hpp"

namespace kvant::models {
namespace {

constexpr std::array<std::string_view, 3> kMethods = {"loss", "divergence", "output-error"};

using Windows = std::vector<std::vector<TokenId>>;
using States = std::vector<std::vector<float>>;  ///< of each window, [tokens, n_embd]

/// A layer that stands elsewhere.
class BorrowedLinear final : public LinearLayer {
 public:
  explicit BorrowedLinear(const LinearLayer& layer) : layer_(layer) {}
  void forward(Context& context, LayerInput& x, MatrixView<float> y) const override {
    layer_.forward(context, x, y);
  }
  [[nodiscard]] std::int64_t out_features() const override { return layer_.out_features(); }
  [[nodiscard]] std::size_t weight_bytes() const override { return layer_.weight_bytes(); }

 private:
  const LinearLayer& layer_;
};

void check(const Config& config, const Windows& windows) {
  const auto refuse = [](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, "FormatTrials::measure: " + what);
  };
  std::size_t foretold = 0;
  for (const auto& window : windows) {
    if (window.empty() || static_cast<std::int64_t>(window.size()) > config.position_limit()) {
      refuse("a window of " + std::to_string(window.size()) + " ids; the model takes 1 to " +
             std::to_string(config.position_limit()));
    }
    foretold += window.size() - 1;
  }
  if (foretold == 0) {
    refuse("nothing is foretold in " + std::to_string(windows.size()) +
           " windows; a window needs two ids");
  }
}

class Measurement {
 public:
  Measurement(TrialModel& trial, const Windows& windows, const MeasureOptions& options)
      : trial_(trial),
        windows_(windows),
        options_(options),
        predictions_(trial.context, trial.model, windows,
                     options.method != SensitivityMethod::loss) {}

  Sensitivities run() {
    found_.method = options_.method;
    found_.reference = options_.reference;
    found_.exact = trial_.exact;
    found_.tokens = predictions_.tokens();
    States states = start();
    found_.loss = predictions_.set_reference(through(0, states)).loss;
    found_.runs = 1;
    const std::vector<TrialLayer>& layers = trial_.layers;
    for (std::size_t begin = 0; begin < layers.size();) {
      std::size_t end = begin;
      while (end < layers.size() && layers[end].block == layers[begin].block) ++end;
      measure_block(begin, end, states);
      begin = end;
    }
    if (options_.method == SensitivityMethod::output_error) scale_errors();
    return std::move(found_);
  }

 private:
  [[nodiscard]] std::size_t blocks() const { return trial_.model.blocks.size(); }

  [[nodiscard]] States start() const {
    States states;
    for (const auto& window : windows_) {
      states.push_back(embed(trial_.context, trial_.model, window, 0));
    }
    return states;
  }

  /// States in front of a block become those behind it.
  void run_block_over(std::size_t n, States& states, ObservedInputs* observed = nullptr) {
    const Config& config = trial_.config;
    for (std::size_t w = 0; w < windows_.size(); ++w) {
      if (options_.cancel != nullptr && *options_.cancel) {
        throw Error(ErrorCode::cancelled, "interrupted while sensitivities were measured");
      }
      const MatrixView<float> rows(states[w].data(), static_cast<std::int64_t>(windows_[w].size()),
                                   config.n_embd);
      Pass pass(config, trial_.model.stream, 0, rows.rows(), std::move(memory_));
      pass.distance_bias = trial_.model.distance_bias;
      LayerCache cache;
      run_block(trial_.context, config, trial_.model.blocks[n], static_cast<std::int64_t>(n), pass,
                rows, cache);
      memory_ = std::move(static_cast<PassMemory&>(pass));
      if (observed != nullptr) observed->observe();
    }
  }

  /// Those behind the last block, from those in front of one.
  [[nodiscard]] States through(std::size_t block, States states) {
    for (std::size_t n = block; n < blocks(); ++n) run_block_over(n, states);
    return states;
  }

  /// What the model foretells with another layer in one place.
  [[nodiscard]] PredictionScore with(const TrialLayer& layer, std::unique_ptr<LinearLayer> other,
                                     const States& states) {
    Replaced replaced;
    replaced.put(*layer.slot, std::move(other));
    ++found_.runs;
    const PredictionScore score =
        predictions_.score(through(static_cast<std::size_t>(layer.block), states));
    if (!std::isfinite(score.loss)) {
      throw Error(ErrorCode::not_finite, "layer \"" + layer.name +
                                             "\": the model foretells NaN or infinities with it "
                                             "in " +
                                             shown_);
    }
    return score;
  }

  /// Second moments of what the block's layers read; states move behind the block.
  std::map<std::size_t, methods::OutputError> observe(std::size_t begin, std::size_t end,
                                                      States& states) {
    const std::vector<TrialLayer>& layers = trial_.layers;
    const auto block = static_cast<std::size_t>(layers[begin].block);
    std::map<std::size_t, methods::OutputError> errors;
    const auto add = [&](std::size_t i, const methods::GramMatrix& moments) {
      if (moments.rows() == 0) {
        throw Error(ErrorCode::invalid_argument,
                    "layer \"" + layers[i].name +
                        "\": no token of the text reached it; measure with more text");
      }
      errors.emplace(i, methods::OutputError(trial_.context, moments));
    };
    if (options_.statistics != nullptr) {
      for (std::size_t i = begin; i < end; ++i) {
        if (layers[i].reads != i) continue;
        const methods::GramMatrix moments = options_.statistics->moments(layers[i].name);
        if (moments.features() != layers[i].inputs) {
          throw Error(ErrorCode::invalid_file,
                      "layer \"" + layers[i].name + "\": the statistics are of " +
                          std::to_string(moments.features()) + " inputs, the layer has " +
                          std::to_string(layers[i].inputs) + "; they are of another model");
        }
        add(i, moments);
      }
      if (options_.method != SensitivityMethod::output_error) run_block_over(block, states);
      return errors;
    }
    const CalibrateOptions calibration;
    ObservedInputs observed(trial_.context, calibration);
    {
      std::vector<std::unique_ptr<BorrowedLinear>> borrowed;
      for (std::size_t i = begin; i < end; ++i) {
        borrowed.push_back(std::make_unique<BorrowedLinear>(**layers[i].slot));
      }
      Replaced replaced;
      for (std::size_t i = begin; i < end; ++i) {
        const std::size_t first = layers[i].reads;
        replaced.put(
            *layers[i].slot,
            observed.observing(layers[i].name, std::move(borrowed[i - begin]), layers[i].inputs,
                               first == i ? nullptr : &layers[first].name));
      }
      run_block_over(block, states, &observed);
    }
    observed.complete();
    for (std::size_t i = begin; i < end; ++i) {
      if (layers[i].reads == i) add(i, observed.moments_of(layers[i].name));
    }
    return errors;
  }

  void measure_block(std::size_t begin, std::size_t end, States& states) {
    const States before = states;
    const auto errors = observe(begin, end, states);
    for (std::size_t i = begin; i < end; ++i) {
      measure_layer(trial_.layers[i], errors.at(trial_.layers[i].reads), before);
    }
  }

  void measure_layer(const TrialLayer& layer, const methods::OutputError& error,
                     const States& before) {
    const std::vector<float> values = trial_.weights_of(layer);
    const MatrixView<const float> weights(values.data(), layer.outputs, layer.inputs);
    const double power = error.sum(trial_.context, weights, {});
    std::vector<float> rounded(values.size());
    const MatrixView<float> other(rounded.data(), layer.outputs, layer.inputs);
    const auto make = [&](LayerFormat format, double& relative) {
      shown_ = to_string(format);
      auto made = trial_.make(layer, weights, format);
      made->linear().dequantize(other);
      const double sum = error.sum(trial_.context, weights, other);
      relative = power > 0 ? sum / power : 0;
      return made;
    };
    double reference_error = 0;
    double reference_loss = 0;
    if (options_.method != SensitivityMethod::loss) {
      auto made = make(options_.reference, reference_error);
      if (options_.method == SensitivityMethod::divergence) {
        reference_loss = with(layer, std::move(made), before).divergence;
      }
      reference_errors_ += reference_error;
    }
    LayerSensitivity& result = found_.layers.emplace_back();
    result.name = layer.name;
    result.outputs = layer.outputs;
    result.inputs = layer.inputs;
    for (const LayerFormat format : options_.formats) {
      report(layer);
      FormatSensitivity& each = result.formats.emplace_back();
      each.format = format;
      each.bytes = bytes_of(format, layer.outputs, layer.inputs);
      auto made = make(format, each.output_error);
      switch (options_.method) {
        case SensitivityMethod::loss:
          each.loss = with(layer, std::move(made), before).loss - found_.loss;
          each.measured = true;
          break;
        case SensitivityMethod::divergence:
          each.loss =
              reference_error > 0 ? reference_loss * each.output_error / reference_error : 0;
          each.measured = format == options_.reference;
          break;
        case SensitivityMethod::output_error: each.loss = each.output_error; break;
      }
    }
  }

  /// Nats of the whole model in the reference format, over the sum of the layers' errors there.
  void scale_errors() {
    double loss = 0;
    {
      Replaced replaced;
      for (const TrialLayer& layer : trial_.layers) {
        const std::vector<float> values = trial_.weights_of(layer);
        replaced.put(*layer.slot, trial_.make(layer, {values.data(), layer.outputs, layer.inputs},
                                              options_.reference));
      }
      ++found_.runs;
      loss = predictions_.score(through(0, start())).divergence;
    }
    const double factor = reference_errors_ > 0 ? loss / reference_errors_ : 0;
    if (!std::isfinite(factor)) {
      throw Error(ErrorCode::not_finite,
                  "the model foretells NaN or infinities in " + to_string(options_.reference));
    }
    for (LayerSensitivity& layer : found_.layers) {
      for (FormatSensitivity& each : layer.formats) each.loss *= factor;
    }
  }

  void report(const TrialLayer& layer) {
    if (options_.progress) {
      options_.progress(done_,
                        static_cast<std::int64_t>(trial_.layers.size() * options_.formats.size()),
                        layer.name);
    }
    ++done_;
  }

  TrialModel& trial_;
  const Windows& windows_;
  const MeasureOptions& options_;
  Predictions predictions_;
  PassMemory memory_;
  Sensitivities found_;
  std::string shown_;  ///< the format that is tried
  double reference_errors_ = 0;
  std::int64_t done_ = 0;
};

}  // namespace

std::string_view to_string(SensitivityMethod method) noexcept {
  return kMethods[static_cast<std::size_t>(method)];
}

std::optional<SensitivityMethod> sensitivity_method_from_name(std::string_view name) {
  const auto* const it = std::find(kMethods.begin(), kMethods.end(), name);
  if (it == kMethods.end()) return std::nullopt;
  return static_cast<SensitivityMethod>(it - kMethods.begin());
}

std::uint64_t Sensitivities::elements() const noexcept {
  std::uint64_t sum = 0;
  for (const LayerSensitivity& layer : layers) {
    sum += static_cast<std::uint64_t>(layer.outputs) * static_cast<std::uint64_t>(layer.inputs);
  }
  return sum;
}

Sensitivities FormatTrials::measure(const std::vector<std::vector<TokenId>>& windows,
                                    const MeasureOptions& options) {
  check(state_->config, windows);
  MeasureOptions chosen = options;
  for (const LayerFormat& format : default_mix_formats()) {
    if (options.formats.empty() && !unfit_layer(format)) chosen.formats.push_back(format);
  }
  std::vector<LayerFormat> tried = chosen.formats;
  if (options.method != SensitivityMethod::loss) tried.push_back(options.reference);
  for (const LayerFormat& format : tried) {
    const std::optional<std::string> layer = unfit_layer(format);
    if (!layer) continue;
    throw Error(ErrorCode::invalid_argument,
                "layer \"" + *layer + "\" cannot be " + to_string(format) +
                    ": its inputs do not fill blocks; leave that format out (--formats)");
  }
  return Measurement(*state_, windows, chosen).run();
}

}  // namespace kvant::models
