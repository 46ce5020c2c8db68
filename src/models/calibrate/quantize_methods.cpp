#include "kvant/models/quantize_methods.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <set>
#include <utility>

#include "kvant/error.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/methods/awq.hpp"
#include "kvant/models/load.hpp"
#include "kvant/models/model_files.hpp"
#include "kvant/quantize.hpp"
#include "models/calibrate/input_scaling.hpp"
#include "models/calibrate/method_encoder.hpp"
#include "models/calibrate/same_model.hpp"

namespace kvant::models {
namespace {

constexpr std::array kNames{
    std::pair{Method::rtn, "rtn"}, std::pair{Method::mse, "mse"},
    std::pair{Method::hqq, "hqq"}, std::pair{Method::gptq, "gptq"},
    std::pair{Method::awq, "awq"}, std::pair{Method::smoothquant, "smoothquant"},
};

WeightFormat format_of(int bits) {
  switch (bits) {
    case 2: return WeightFormat::int2_group;
    case 3: return WeightFormat::int3_group;
    case 8: return WeightFormat::int8_group;
    default: return WeightFormat::int4_group;
  }
}

void check(const MethodOptions& options) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorCode::invalid_argument, std::string(to_string(options.method)) + ": " + what);
  };
  if (options.method != Method::smoothquant) {
    if (options.bits != 2 && options.bits != 3 && options.bits != 4 && options.bits != 8) {
      refuse(std::to_string(options.bits) + " bits; 2, 3, 4 and 8 are possible");
    }
    if (options.method == Method::awq && options.bits != 4) {
      refuse(std::to_string(options.bits) + " bits; AWQ's form has 4");
    }
    if (options.group != -1 && (options.group < 32 || options.group % 32 != 0)) {
      refuse("groups of " + std::to_string(options.group) +
             " inputs; multiples of 32 are possible, and -1, a group for each output");
    }
  }
  if (options.static_activations && !options.compressed_tensors) {
    refuse("static scales of activations are kept in the form of compressed-tensors");
  }
  if (!(options.damp >= 0) || std::isinf(options.damp)) {
    refuse("damp is " + std::to_string(options.damp) + ", not a number from 0 up");
  }
  if (!(options.alpha >= 0 && options.alpha <= 1)) {
    refuse("alpha is " + std::to_string(options.alpha) + ", not in [0, 1]");
  }
}

/// Of this model, and complete.
void check_statistics(Context& context, const std::filesystem::path& model, const Config& config,
                      const MethodOptions& options, const StatisticsFile* statistics) {
  const std::string who(to_string(options.method));
  if (statistics == nullptr) {
    throw Error(ErrorCode::invalid_argument,
                who +
                    ": needs statistics of the activations (kvant calibrate MODEL TEXT --out "
                    "FILE)");
  }
  check_same_model(context, model, config, *statistics, who);
  if (needs_moments(options.method) && !statistics->has_moments()) {
    throw Error(ErrorCode::invalid_argument,
                who + ": the statistics hold no second moments; calibrate without --no-moments");
  }
}

/// What the largest activation of a layer's, behind the scaling of its inputs, is the last code of.
float static_scale(const StatisticsFile& statistics, const std::string& layer,
                   const std::map<std::string, io::WeightScaling>& scalings) {
  const methods::InputStatistics seen = statistics.statistics(layer);
  const auto it = scalings.find(layer + ".weight");
  const bool scaled = it != scalings.end() && !it->second.inputs.empty();
  float largest = 0;
  for (std::int64_t k = 0; k < seen.features(); ++k) {
    const float by = scaled ? it->second.inputs[static_cast<std::size_t>(k)] : 1.0f;
    largest = std::max(largest, seen.absmax(k) / by);
  }
  return symmetric_scale(largest, 127).scale;
}

std::vector<float> inverse(const std::vector<float>& scales) {
  std::vector<float> result;
  for (const float scale : scales) result.push_back(1.0f / scale);
  return result;
}

/// Factors of inputs, folded into what makes them.
class Scaler {
 public:
  Scaler(Context& context, const std::filesystem::path& model, const Config& config,
         const MethodOptions& options, const StatisticsFile& statistics,
         io::QuantizeCheckpointOptions& plan)
      : context_(context),
        config_(config),
        options_(options),
        statistics_(statistics),
        plan_(plan),
        source_(open_weights(model, config)),
        parts_(context, config, load_options_, *source_) {}

  /// @param quantized  layers: where none reads an input, it stays as it is
  void run(MethodEncoder& encoder, const std::set<std::string>& quantized) {
    for (const ScalableInput& input : scalable_inputs(config_, parts_, *source_)) {
      if (std::none_of(input.layers.begin(), input.layers.end(),
                       [&](const std::string& layer) { return quantized.contains(layer); })) {
        continue;
      }
      if (options_.method == Method::smoothquant && !input.is_norm) continue;
      if (plan_.job.cancel != nullptr && plan_.job.cancel->load()) {
        throw Error(ErrorCode::cancelled, "stopped; nothing was written");
      }
      scale(input, encoder);
    }
  }

 private:
  void scale(const ScalableInput& input, MethodEncoder& encoder) {
    std::vector<std::vector<float>> values(input.layers.size());
    std::vector<MatrixView<const float>> layers;
    for (std::size_t i = 0; i < input.layers.size(); ++i) {
      const LayerName name{input.layers[i], input.layers[i], input.layers[i]};
      const FloatParameters parameters = parts_.linear(input.specs[i], name);
      const WeightMatrix& w = parameters.weights;
      values[i] = w.floats(context_);
      // Factors that a scaling before gave its outputs.
      if (const auto it = plan_.scalings.find(name.file + ".weight");
          it != plan_.scalings.end() && !it->second.outputs.empty()) {
        for (std::int64_t r = 0; r < w.rows(); ++r) {
          for (std::int64_t c = 0; c < w.cols(); ++c) {
            values[i][static_cast<std::size_t>(r * w.cols() + c)] *=
                it->second.outputs[static_cast<std::size_t>(r)];
          }
        }
      }
      layers.emplace_back(values[i].data(), w.rows(), w.cols());
      source_->release(name.file + ".weight");
    }
    const methods::InputStatistics seen = statistics_.statistics(input.layers.front());
    std::vector<float> scales;
    double ratio = 0;
    if (options_.method == Method::awq) {
      methods::ScaleSearch found = methods::search_scales(
          context_, layers, seen, statistics_.moments(input.layers.front()), encoder.scheme());
      scales = std::move(found.scales);
      ratio = found.ratio;
      if (ratio == 0) return;
    } else {
      scales = methods::smooth_scales(layers, seen, options_.alpha);
    }
    for (const std::string& layer : input.layers) {
      plan_.scalings[layer + ".weight"].inputs = scales;
      encoder.set_scales(layer, scales, ratio);
    }
    for (const std::string& tensor : input.before) {
      io::WeightScaling& before = plan_.scalings[tensor];
      before.outputs = inverse(scales);
      // A norm's bias is the value itself.
      before.offset = input.is_norm && tensor.ends_with(".weight") ? input.offset : 0.0f;
    }
  }

  Context& context_;
  const Config& config_;
  const MethodOptions& options_;
  const StatisticsFile& statistics_;
  io::QuantizeCheckpointOptions& plan_;
  LoadOptions load_options_;
  std::unique_ptr<WeightSource> source_;
  PartLoader parts_;
};

}  // namespace

std::string_view to_string(Method method) noexcept {
  for (const auto& [value, name] : kNames) {
    if (value == method) return name;
  }
  return "?";
}

std::optional<Method> method_from_name(std::string_view name) noexcept {
  for (const auto& [value, known] : kNames) {
    if (known == name) return value;
  }
  return std::nullopt;
}

bool needs_statistics(Method method) noexcept {
  return needs_moments(method) || method == Method::smoothquant;
}

bool needs_moments(Method method) noexcept {
  return method == Method::gptq || method == Method::awq;
}

void calibrate_for(Context& context, const MethodOptions& method,
                   const std::vector<std::string>& skip, CalibrateOptions& options) {
  if (method.method == Method::awq || method.method == Method::smoothquant) {
    throw Error(ErrorCode::invalid_argument,
                std::string(to_string(method.method)) +
                    " scales inputs by what they are in float; it is calibrated without it");
  }
  options.moments = true;
  options.replaced_by = std::string(to_string(method.method)) + " " + std::to_string(method.bits) +
                        " " + std::to_string(method.group) + " " +
                        std::to_string(method.symmetric) + std::to_string(method.act_order) +
                        std::to_string(method.static_groups) + " " + std::to_string(method.damp) +
                        " " + std::to_string(static_cast<int>(method.search));
  for (const std::string& pattern : skip) options.replaced_by += " " + pattern;
  options.replace = [&context, method, skip](const std::string& layer,
                                             const methods::GramMatrix& moments,
                                             MatrixView<float> weights) {
    const auto matches = [&](const std::string& pattern) { return io::glob_match(pattern, layer); };
    if (std::any_of(skip.begin(), skip.end(), matches) || moments.rows() == 0) return;
    MethodEncoder(context.kernels(), method, nullptr)
        .choose(context, moments, weights)
        .dequantize(weights);
  };
}

MethodSummary quantize_by_method(Context& context, const std::filesystem::path& model,
                                 const std::filesystem::path& output, const MethodOptions& options,
                                 const StatisticsFile* statistics,
                                 io::QuantizeCheckpointOptions base) {
  const ModelFiles files(model);
  const Config& config = files.config();
  check(options);
  if (needs_statistics(options.method) && !(base.dry_run && statistics == nullptr)) {
    check_statistics(context, model, config, options, statistics);
  }
  base.job.context = base.job.context != nullptr ? base.job.context : &context;
  const auto encoder = std::make_shared<MethodEncoder>(context.kernels(), options, statistics);
  if (options.method == Method::smoothquant) {
    base.scheme = io::WeightScheme::int8;
    if (options.compressed_tensors) base.quant_method = "compressed-tensors";
  } else {
    base.scheme = io::WeightScheme(format_of(options.bits));
    base.quant_method = options.method == Method::awq ? "awq" : "gptq";
    base.block = options.group;
    base.zero_points = !options.symmetric;
    base.act_order = options.act_order && !options.static_groups && options.group != -1;
    base.encoder = encoder;
  }
  MethodSummary result;
  const bool dry_run = base.dry_run;
  base.dry_run = true;  // mistakes show before the long work
  const io::CheckpointSummary planned = io::quantize_checkpoint(model, output, base);
  if (needs_moments(options.method) && statistics != nullptr) {
    for (const io::PlannedLayer& layer : planned.layers) {
      if (layer.scheme.quantizes() && !statistics->contains(layer.name)) {
        static_cast<void>(statistics->statistics(layer.name));  // whose error says it all
      }
    }
  }
  if (dry_run) {
    result.checkpoint = planned;
    return result;
  }
  base.dry_run = false;
  if (options.method == Method::awq || options.method == Method::smoothquant) {
    std::set<std::string> quantized;
    for (const io::PlannedLayer& layer : planned.layers) {
      if (layer.scheme.quantizes()) quantized.insert(layer.name);
    }
    Scaler(context, model, config, options, *statistics, base).run(*encoder, quantized);
    for (const std::string& layer : quantized) {
      // (The plan says what becomes of one that no token came through.)
      if (!options.static_activations || !statistics->contains(layer)) continue;
      base.input_scales.emplace(layer, static_scale(*statistics, layer, base.scalings));
    }
  }
  result.checkpoint = io::quantize_checkpoint(model, output, base);
  result.layers = encoder->outcomes();
  return result;
}

}  // namespace kvant::models
