// FormatTrials: loading the model, and running it with other layers.

#include <utility>

#include "kvant/error.hpp"
#include "kvant/models/load.hpp"
#include "models/calibrate/observed_block.hpp"
#include "models/load/parts.hpp"
#include "models/mix/pack_layer.hpp"
#include "models/mix/trial_model.hpp"

namespace kvant::models {

std::vector<float> TrialModel::weights_of(const TrialLayer& layer) const {
  std::vector<float> weights(static_cast<std::size_t>(layer.outputs * layer.inputs));
  const auto& held = static_cast<const QuantizedLinear&>(**layer.slot);
  held.linear().dequantize(MatrixView<float>(weights.data(), layer.outputs, layer.inputs));
  return weights;
}

std::unique_ptr<QuantizedLinear> TrialModel::make(const TrialLayer& layer,
                                                  MatrixView<const float> weights,
                                                  LayerFormat format) const {
  const Arithmetic arithmetic = exact ? Arithmetic::exact : Arithmetic::kvant;
  return std::make_unique<QuantizedLinear>(
      Linear::from(pack_layer(context, weights, format, arithmetic), bias_view(layer.bias),
                   {.arithmetic = arithmetic}));
}

FormatTrials::FormatTrials(Context& context, const std::filesystem::path& path,
                           const Config& config, bool exact,
                           const std::function<void(std::int64_t, std::int64_t)>& progress)
    : state_(std::make_unique<State>(context, config, exact)) {
  if (config.kind != ModelKind::decoder) {
    throw Error(ErrorCode::unsupported,
                "sensitivities are measured on models that continue a text; " + path.string() +
                    " is a " + std::string(config.model_type));
  }
  LoadOptions options;
  options.plan.scheme = Scheme(WeightFormat::float32);  // by the library's kernels
  options.progress = progress;
  state_->model = load_model(context, path, config, options);
  const auto source = open_float_weights(path, config);
  const PartLoader parts(context, config, options, *source);
  const Stack& stack = parts.stacks().back();
  for (std::int64_t n = 0; n < stack.layers; ++n) {
    Block& block = state_->model.blocks[static_cast<std::size_t>(n)];
    const std::vector<LinearSpec> specs = parts.linears(stack, block);
    const std::vector<std::size_t> first = shared_inputs(block, specs);
    const std::size_t before = state_->layers.size();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const LinearSpec& spec = specs[i];
      if (spec.stays_float) {
        throw Error(ErrorCode::unsupported, path.string() + ": layer \"" + spec.name +
                                                "\" always stays in float; mixes of such models "
                                                "are not measured");
      }
      const LayerName name = parts.name_of(stack.name(n, spec.name));
      state_->layers.push_back({name.file, n, spec.outputs, spec.inputs, parts.bias(spec, name),
                                spec.slot, before + first[i]});
    }
  }
  const std::vector<std::string> names = layers();
  state_->other_bytes = source->bytes_beside({names.begin(), names.end()});
}

FormatTrials::~FormatTrials() = default;
FormatTrials::FormatTrials(FormatTrials&&) noexcept = default;
FormatTrials& FormatTrials::operator=(FormatTrials&&) noexcept = default;

std::vector<std::string> FormatTrials::layers() const {
  std::vector<std::string> names;
  for (const TrialLayer& layer : state_->layers) names.push_back(layer.name);
  return names;
}

std::optional<std::string> FormatTrials::unfit_layer(LayerFormat format) const {
  const WeightFormatInfo& info = describe(format.format);
  for (const TrialLayer& layer : state_->layers) {
    if (info.is_gguf() && layer.inputs % info.gguf_elements != 0) return layer.name;
  }
  return std::nullopt;
}

std::uint64_t FormatTrials::other_bytes() const noexcept {
  return state_->other_bytes;
}

Perplexity FormatTrials::evaluate(std::span<const TokenId> ids, std::int64_t window,
                                  std::span<const LayerFormat> formats,
                                  const EvaluateOptions& options) {
  const State& state = *state_;
  if (!formats.empty() && formats.size() != state.layers.size()) {
    throw Error(ErrorCode::invalid_argument, std::to_string(formats.size()) + " formats for " +
                                                 std::to_string(state.layers.size()) + " layers");
  }
  Replaced replaced;
  for (std::size_t i = 0; i < formats.size(); ++i) {
    const TrialLayer& layer = state.layers[i];
    if (formats[i].format == WeightFormat::float32) continue;
    const std::vector<float> weights = state.weights_of(layer);
    replaced.put(*layer.slot,
                 state.make(layer, {weights.data(), layer.outputs, layer.inputs}, formats[i]));
  }
  return models::evaluate(state.context, state.model, ids, window, options);
}

}  // namespace kvant::models
