#include "kvant/models/load.hpp"

#include <algorithm>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>

#include "kvant/io/checkpoint.hpp"
#include "kvant/kernel_table.hpp"
#include "kvant/models/calibration.hpp"
#include "kvant/models/gathered_linear.hpp"
#include "models/load/adapter_layers.hpp"
#include "models/load/given_names.hpp"
#include "models/load/layer_maker.hpp"
#include "models/load/parts.hpp"
#include "models/load/tensors.hpp"
#include "models/load/unread_tensors.hpp"

namespace kvant::models {
namespace {

constexpr std::int64_t kCalibrationTokens = 128;

/// The calibration window on its way through the blocks.
struct Window {
  std::vector<float> start;   ///< embeddings
  std::vector<float> h;       ///< what the next block reads; empty: no calibration
  std::vector<float> source;  ///< the encoder's output, for the decoder beside it
  std::vector<float> distance_bias;
};

class Loader {
 public:
  Loader(Context& context, const std::filesystem::path& folder, const Config& config,
         const LoadOptions& options)
      : context_(context),
        config_(config),
        options_(options),
        source_(config.int8 && !options.plan.stored_int8 ? open_float_weights(folder, config)
                                                         : open_weights(folder, config)),
        split_(options.ranks != nullptr
                   ? std::make_shared<const Split>(split_of(config, *options.ranks))
                   : nullptr),
        block_config_(split_ ? split_->blocks : config),
        parts_(context, config, options, *source_, split_.get()),
        maker_(context, config, options, *source_),
        adapter_(context, options) {
    check_shapes();
    require_all_read(config_, parts_, *source_);
    check_given_names(options, config, parts_, *source_);
  }

  Model load() {
    Model model;
    model.config = config_;
    model.split = split_;
    if (plan().scheme == Scheme::bf16) model.stream = Stream::bf16;
    model.rows_are_independent = plan().scheme != Scheme::int8_tensor &&
                                 (plan().threshold == 0 || maker_.outliers() != Outliers::per_call);
    parts_.tables(model);
    load_projections(model);
    Window window;
    if (plan().calibrate) window.start = embed(context_, model, calibration_ids(), 0);
    for_each_block(window, [&](const Stack& stack, std::int64_t n, bool beside) {
      (beside ? model.encoder.blocks : model.blocks).push_back(load_block(stack, n, window));
    });
    for (const Stack& stack : parts_.stacks()) {
      const bool beside = is_encoder_beside(stack);
      (beside ? model.encoder.final_norm : model.final_norm) = parts_.final_norm(stack);
      (beside ? model.encoder.distance_bias : model.distance_bias) =
          parts_.distance_bias(stack, sees_all(stack));
    }
    load_head(model, window);
    adapter_.check_all_used();
    model.placement = maker_.placement();
    model.bytes_read = source_->bytes_read();
    model.expanded = maker_.expanded();
    return model;
  }

  OutlierColumns observe() {
    Window window;
    window.start = parts_.embed_window(calibration_ids());
    OutlierColumns result;
    for_each_block(window, [&](const Stack& stack, std::int64_t n, bool) {
      ObservedBlock observed = observe_block(stack, n, window);
      for (std::size_t i = 0; i < observed.columns.size(); ++i) {
        if (!observed.stays_float[i]) {
          result[observed.names[i].file] = std::move(observed.columns[i]);
        }
      }
    });
    Model model;
    if (const auto linear = parts_.head_linear(model)) {
      const LayerName name{linear->name, linear->name, linear->name};
      result[linear->name] = observe_linear(parts_.linear(*linear, name), window);
    }
    return result;
  }

 private:
  /// A block's linears in float, and the columns where their inputs were outliers.
  struct ObservedBlock {
    std::vector<LayerName> names;
    std::vector<bool> stays_float;
    std::vector<FloatParameters> parameters;
    std::vector<std::vector<std::int64_t>> columns;
  };

  [[nodiscard]] const Plan& plan() const { return options_.plan; }

  /// The encoder is the first of two stacks.
  [[nodiscard]] bool is_encoder_beside(const Stack& stack) const {
    return &stack != &parts_.stacks().back();
  }
  [[nodiscard]] bool sees_all(const Stack& stack) const {
    return config_.kind == ModelKind::encoder || is_encoder_beside(stack);
  }

  /// function(stack, n, whether the stack is the encoder beside a decoder), and the calibration
  /// window from stack to stack.
  template <class Function>
  void for_each_block(Window& window, Function&& function) {
    std::int64_t done = 0;
    for (const Stack& stack : parts_.stacks()) {
      const bool beside = is_encoder_beside(stack);
      window.h = window.start;
      if (!window.h.empty()) window.distance_bias = parts_.distance_bias(stack, sees_all(stack));
      for (std::int64_t n = 0; n < stack.layers; ++n) {
        if (options_.progress) options_.progress(done, parts_.block_count());
        function(stack, n, beside);
        ++done;
      }
      if (beside && !window.h.empty()) {
        const MatrixView<float> view = view_of(window.h);
        normalize(context_, config_, view, parts_.final_norm(stack), Stream::fp32, view);
        window.source = std::move(window.h);
      }
    }
  }

  [[nodiscard]] MatrixView<float> view_of(std::vector<float>& rows) const {
    return {rows.data(), static_cast<std::int64_t>(rows.size()) / config_.n_embd, config_.n_embd};
  }

  /// config.json's sizes against the tensors, before any memory is taken for them.
  void check_shapes() const {
    require_tensor(*source_, parts_.token_table(),
                   {static_cast<std::uint64_t>(config_.vocab_size),
                    static_cast<std::uint64_t>(config_.embedding_size)});
    for (const Stack& stack : parts_.stacks()) {
      Block block = empty_block(config_, *stack.linears);
      const std::vector<LinearSpec> specs = parts_.linears(stack, block);
      for (const LinearSpec& spec : specs) {
        const LayerName next = parts_.name_of(stack.name(stack.layers, spec.name));
        require_no_block_beyond(*source_, next.file + ".weight", stack.layers);
      }
      for (std::int64_t n = 0; n < stack.layers; ++n) {
        for (const LinearSpec& spec : specs) {
          const LayerName layer = parts_.name_of(stack.name(n, spec.name));
          if (maker_.holds_codes(layer)) continue;  // whose reader checks them
          const std::string name = layer.file + ".weight";
          require_tensor(*source_, name, parts_.shape(name, spec));
        }
      }
    }
  }

  /// A layer that no scheme quantizes; no name: there is none.
  [[nodiscard]] std::unique_ptr<LinearLayer> load_projection(const std::string& part,
                                                             std::int64_t outputs,
                                                             std::int64_t inputs) const {
    if (part.empty()) return nullptr;
    const LinearSpec linear{part, outputs, inputs, false, nullptr, true};
    return make_layer(linear, parts_.name_of(part));
  }

  void load_projections(Model& model) const {
    const std::int64_t width = config_.embedding_size;
    model.project_in =
        load_projection(std::string(config_.names.project_in), config_.n_embd, width);
    model.project_out =
        load_projection(std::string(config_.names.project_out), width, config_.n_embd);
  }

  [[nodiscard]] std::vector<TokenId> calibration_ids() const {
    std::vector<TokenId> ids = options_.calibration_ids;
    if (ids.empty()) {
      std::mt19937 random(20240229);  // fixed: loading twice gives the same model
      ids.resize(static_cast<std::size_t>(std::min(kCalibrationTokens, config_.n_positions)));
      for (TokenId& id : ids) {
        id = static_cast<TokenId>(random() % static_cast<std::uint64_t>(config_.vocab_size));
      }
    }
    if (static_cast<std::int64_t>(ids.size()) > config_.n_positions) {
      ids.resize(static_cast<std::size_t>(config_.n_positions));  // one window
    }
    return ids;
  }

  /// Runs the calibration window through a block in float; it becomes the next block's input.
  ObservedBlock observe_block(const Stack& stack, std::int64_t n, Window& window) {
    Block block = load_float_parts(stack, n);
    const std::vector<LinearSpec> specs = parts_.linears(stack, block);
    ObservedBlock observed;
    for (const LinearSpec& spec : specs) {
      observed.names.push_back(parts_.name_of(stack.name(n, spec.name)));
      observed.stays_float.push_back(spec.stays_float);
      observed.parameters.push_back(parts_.linear(spec, observed.names.back()));
    }
    std::vector<const ObservingLinear*> observers;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      auto layer = std::make_unique<ObservingLinear>(observed.parameters[i].weights,
                                                     observed.parameters[i].bias, plan().threshold);
      observers.push_back(layer.get());
      put(specs[i], observed.names[i], std::move(layer));
    }
    LayerCache cache;
    LayerCache read;
    const MatrixView<float> rows = view_of(window.h);
    Pass pass(block_config_, Stream::fp32, 0, rows.rows());
    pass.causal = !sees_all(stack);
    pass.distance_bias = window.distance_bias;
    const bool crosses = !window.source.empty();
    if (crosses) read_source(context_, block_config_, block, pass, view_of(window.source), read);
    run_block(context_, block_config_, block, n, pass, rows, cache, crosses ? &read : nullptr);
    for (const ObservingLinear* observer : observers) {
      observed.columns.push_back(observer->outlier_columns());
    }
    return observed;
  }

  /// Outlier columns of the window as it is behind the last block.
  [[nodiscard]] std::vector<std::int64_t> observe_linear(const FloatParameters& parameters,
                                                         Window& window) {
    const ObservingLinear observer(parameters.weights, parameters.bias, plan().threshold);
    std::vector<float> out(window.h.size());
    const MatrixView<float> rows = view_of(window.h);
    LayerInput input(rows);
    observer.forward(context_, input, view_of(out));
    return observer.outlier_columns();
  }

  /// A block with its norms and its router.
  [[nodiscard]] Block load_float_parts(const Stack& stack, std::int64_t n) const {
    Block block = parts_.norms(stack, n);
    if (config_.n_expert > 0) {
      block.router =
          load_projection(stack.name(n, stack.parts->router), config_.n_expert, config_.n_embd);
    }
    return block;
  }

  /// A layer as the plan has it, from what is stored.
  [[nodiscard]] std::unique_ptr<LinearLayer> make_layer(const LinearSpec& spec,
                                                        const LayerName& name) const {
    std::vector<float> bias = parts_.bias(spec, name);
    if (maker_.holds_codes(name)) return maker_.from_stored_codes(name, spec, bias);
    auto stored = maker_.from_stored_layer(name, spec, bias);
    if (stored != nullptr) return stored;
    LinearSpec read = spec;
    read.rows = maker_.rows_to_read(name, spec);
    FloatParameters parameters{parts_.weights(read, name), std::move(bias)};
    if (spec.stays_float) return maker_.stay_float(name, std::move(parameters));
    return maker_.quantize(name, spec, std::move(parameters), {});
  }

  /// A layer into its place, with its part of the adapter, and with what leads it from rank to
  /// rank.
  void put(const LinearSpec& spec, const LayerName& name, std::unique_ptr<LinearLayer> layer) {
    layer = adapter_.beside(name, spec, std::move(layer));
    if (!spec.input_widths.empty()) {
      layer = std::make_unique<GatheredLinear>(*split_->ranks, std::move(layer), spec.input_widths,
                                               share_sizes(spec.outputs, split_->ranks->size()));
    }
    *spec.slot = std::move(layer);
  }

  Block load_block(const Stack& stack, std::int64_t n, Window& window) {
    Block block = load_float_parts(stack, n);
    const std::vector<LinearSpec> specs = parts_.linears(stack, block);
    if (window.h.empty()) {
      for (const LinearSpec& spec : specs) {
        const LayerName name = parts_.name_of(stack.name(n, spec.name));
        put(spec, name, make_layer(spec, name));
      }
      return block;
    }
    // What the linears see in float decides which columns keep their weights.
    ObservedBlock observed = observe_block(stack, n, window);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      FloatParameters parameters = std::move(observed.parameters[i]);
      auto layer = specs[i].stays_float
                       ? maker_.stay_float(observed.names[i], std::move(parameters))
                       : maker_.quantize(observed.names[i], specs[i], std::move(parameters),
                                         observed.columns[i]);
      put(specs[i], observed.names[i], std::move(layer));
    }
    return block;
  }

  void load_head(Model& model, Window& window) {
    const auto linear = parts_.head_linear(model);
    if (!linear) return;
    const LayerName name{linear->name, linear->name, linear->name};
    if (window.h.empty()) {
      *linear->slot = make_layer(*linear, name);
    } else {
      FloatParameters parameters = parts_.linear(*linear, name);
      const std::vector<std::int64_t> columns = observe_linear(parameters, window);
      *linear->slot = maker_.quantize(name, *linear, std::move(parameters), columns);
    }
    *linear->slot = adapter_.beside(name, *linear, std::move(*linear->slot));
    parts_.head_parts(model);
  }

  Context& context_;
  const Config& config_;
  const LoadOptions& options_;
  std::unique_ptr<WeightSource> source_;
  std::shared_ptr<const Split> split_;  ///< null: this process alone
  const Config& block_config_;          ///< of blocks as they are here
  PartLoader parts_;
  LayerMaker maker_;
  AdapterLayers adapter_;
};

}  // namespace

Model load_model(Context& context, const std::filesystem::path& folder, const Config& config,
                 const LoadOptions& options) {
  return Loader(context, folder, config, options).load();
}

OutlierColumns find_outlier_columns(Context& context, const std::filesystem::path& folder,
                                    const Config& config, const std::vector<TokenId>& ids,
                                    float threshold,
                                    const std::function<void(std::int64_t, std::int64_t)>& progress,
                                    Ranks* ranks) {
  LoadOptions options;
  options.ranks = ranks;
  options.plan.threshold = threshold;
  options.calibration_ids = ids;
  options.progress = progress;
  return Loader(context, folder, config, options).observe();
}

}  // namespace kvant::models
