#include "kvant/models/load.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <utility>

#include "kvant/io/architecture.hpp"
#include "kvant/io/checkpoint.hpp"
#include "kvant/io/glob.hpp"
#include "kvant/models/calibration.hpp"
#include "models/load/block_layout.hpp"
#include "models/load/layer_maker.hpp"
#include "models/load/tensors.hpp"

namespace kvant::models {
namespace {

constexpr std::int64_t kCalibrationTokens = 128;

class Loader {
 public:
  Loader(Context& context, const std::filesystem::path& folder, const Config& config,
         const LoadOptions& options)
      : context_(context),
        config_(config),
        options_(options),
        source_(open_weights(folder, config)),
        // Base models are saved without the prefix.
        prefix_(source_->contains(std::string(names_.tokens) + ".weight") ? "" : names_.prefix),
        maker_(context, options, *source_, prefix_, std::string(names_.prefix)) {
    check_shapes();
    check_skip_patterns();
  }

  Model load() {
    Model model;
    model.config = config_;
    if (plan().scheme == Scheme::bf16) model.stream = Stream::bf16;
    model.rows_are_independent = plan().scheme != Scheme::int8_tensor &&
                                 (!plan().has_integer_products() || plan().exact) &&
                                 (plan().scheme != Scheme::llm_int8 || plan().threshold == 0 ||
                                  maker_.outliers() != Outliers::per_call);
    load_embeddings(model);
    std::vector<float> h;
    if (plan().calibrate) h = embed(context_, model, calibration_ids(), 0);
    for (std::int64_t n = 0; n < config_.n_layer; ++n) {
      if (options_.progress) options_.progress(n, config_.n_layer);
      model.blocks.push_back(load_block(n, h));
    }
    return model;
  }

  OutlierColumns observe() {
    std::vector<float> h = embed_window();
    Block names = empty_block(config_, names_.linears);
    const std::vector<LinearSpec> specs = linears_of(config_, names_.linears, names);
    OutlierColumns result;
    for (std::int64_t n = 0; n < config_.n_layer; ++n) {
      if (options_.progress) options_.progress(n, config_.n_layer);
      ObservedBlock observed = observe_block(n, h);
      for (std::size_t i = 0; i < observed.columns.size(); ++i) {
        result[prefix_ + layer_name(n, specs[i].name)] = std::move(observed.columns[i]);
      }
    }
    return result;
  }

 private:
  /// A block's linears in float, and the columns where their inputs were outliers.
  struct ObservedBlock {
    std::vector<FloatParameters> parameters;
    std::vector<std::vector<std::int64_t>> columns;
  };

  [[nodiscard]] const Plan& plan() const { return options_.plan; }
  [[nodiscard]] bool bf16() const { return maker_.bf16(); }

  /// What float tensors are held as: as stored, unless the scheme says otherwise.
  [[nodiscard]] std::optional<DType> held_dtype() const {
    if (plan().scheme == Scheme::fp32) return DType::float32;
    if (bf16()) return DType::bfloat16;
    return std::nullopt;
  }

  /// config.json's sizes against the tensors, before any memory is taken for them.
  void check_shapes() const {
    require_tensor(*source_, token_table(),
                   {static_cast<std::uint64_t>(config_.vocab_size),
                    static_cast<std::uint64_t>(config_.embedding_size)});
    Block block = empty_block(config_, names_.linears);
    const std::vector<LinearSpec> specs = linears_of(config_, names_.linears, block);
    for (std::int64_t n = 0; n < config_.n_layer; ++n) {
      for (const LinearSpec& spec : specs) {
        const std::string layer = layer_name(n, spec.name);
        if (maker_.holds_codes(layer)) continue;  // whose reader checks them
        const std::string name = prefix_ + layer + ".weight";
        require_tensor(*source_, name, shape(name, spec.outputs, spec.inputs));
      }
    }
  }

  /// Codes always lie [outputs, inputs].
  [[nodiscard]] bool transposed(const std::string& tensor) const {
    return transposed_ && !source_->is_quantized(tensor);
  }
  /// Of a weight in the file.
  [[nodiscard]] std::vector<std::uint64_t> shape(const std::string& tensor, std::int64_t outputs,
                                                 std::int64_t inputs) const {
    const auto rows = static_cast<std::uint64_t>(outputs);
    const auto cols = static_cast<std::uint64_t>(inputs);
    return transposed(tensor) ? std::vector{cols, rows} : std::vector{rows, cols};
  }

  /// Without the prefix.
  [[nodiscard]] std::string layer_name(std::int64_t block, std::string_view linear) const {
    return names_.linear_name(linear, block, false);
  }
  [[nodiscard]] std::string full_name(const std::string& layer) const {
    return std::string(names_.prefix) + layer;
  }
  [[nodiscard]] std::string head_tensor() const { return std::string(names_.head) + ".weight"; }

  void check_skip_patterns() const {
    Block block = empty_block(config_, names_.linears);
    const std::vector<LinearSpec> specs = linears_of(config_, names_.linears, block);
    for (const std::string& pattern : options_.skip) {
      bool found = io::glob_match(pattern, names_.head);  // always kept; naming it is not a mistake
      for (std::int64_t n = 0; n < config_.n_layer && !found; ++n) {
        for (const LinearSpec& spec : specs) {
          found = found || io::glob_match(pattern, full_name(layer_name(n, spec.name)));
        }
      }
      if (!found) {
        throw RequestError("the pattern \"" + pattern.substr(0, 80) +
                           "\" matches no linear layer (they are named like " +
                           full_name(layer_name(0, specs[0].name)) + ")");
      }
    }
  }

  /// Everything outside of the blocks.
  void load_embeddings(Model& model) const {
    const std::int64_t vocabulary = config_.vocab_size;
    const std::int64_t width = config_.embedding_size;
    model.wte = load_weights(context_, *source_, token_table(), vocabulary, width, held_dtype());
    if (config_.positions == Positions::learned) {
      model.wpe = load_weights(context_, *source_, position_table(), positions(), config_.n_embd,
                               held_dtype());
    }
    if (!config_.tie_word_embeddings) {
      model.own_lm_head =
          load_weights(context_, *source_, head_tensor(), vocabulary, width, held_dtype());
    }
    load_around_blocks(model);
    model.final_norm = load_norm(config_.names.final_norm, config_.n_embd);
    model.project_out = load_projection(config_.names.project_out, width, config_.n_embd);
  }

  /// What stands between the tables and the first block.
  void load_around_blocks(Model& model) const {
    model.embedding_norm = load_norm(config_.names.embedding_norm, config_.n_embd);
    model.project_in =
        load_projection(config_.names.project_in, config_.n_embd, config_.embedding_size);
  }

  /// A layer outside of the blocks stays in float; no name: there is none.
  [[nodiscard]] std::unique_ptr<LinearLayer> load_projection(std::string_view name,
                                                             std::int64_t outputs,
                                                             std::int64_t inputs) const {
    if (name.empty()) return nullptr;
    return maker_.stay_float(
        load_float({std::string(name), outputs, inputs, false, nullptr}, std::string(name)));
  }

  [[nodiscard]] std::string position_table() const {
    return prefix_ + std::string(names_.positions) + ".weight";
  }
  [[nodiscard]] std::int64_t positions() const {
    return config_.position_offset + config_.n_positions;
  }

  /// A tied pair may be saved under either name.
  [[nodiscard]] std::string token_table() const {
    const std::string table = prefix_ + std::string(names_.tokens) + ".weight";
    return config_.tie_word_embeddings && !source_->contains(table) ? head_tensor() : table;
  }

  /// The calibration window's embeddings, from the rows of the tables that it needs: the tables may
  /// be larger than any block.
  [[nodiscard]] std::vector<float> embed_window() const {
    const std::vector<TokenId> ids = calibration_ids();
    std::vector<TokenId> places(ids.size());
    std::iota(places.begin(), places.end(), TokenId{0});
    Model window;
    window.config = config_;
    window.config.vocab_size = static_cast<std::int64_t>(ids.size());
    window.config.position_offset = 0;
    window.wte = load_rows(*source_, token_table(), config_.vocab_size, config_.embedding_size,
                           {ids.begin(), ids.end()});
    if (config_.positions == Positions::learned) {
      std::vector<std::int64_t> rows(ids.size());
      std::iota(rows.begin(), rows.end(), config_.position_offset);
      window.wpe = load_rows(*source_, position_table(), positions(), config_.n_embd, rows);
    }
    load_around_blocks(window);
    return embed(context_, window, places, 0);
  }

  /// No name: there is no such norm.
  [[nodiscard]] Norm load_norm(std::string_view name, std::int64_t size) const {
    if (name.empty()) return {};
    const std::string base = prefix_ + std::string(name);
    Norm norm;
    norm.weight = load_vector(context_, *source_, base + ".weight", size, bf16());
    for (float& value : norm.weight) value += config_.norm_offset;
    if (config_.norm_bias) {
      norm.bias = load_vector(context_, *source_, base + ".bias", size, bf16());
    }
    return norm;
  }

  [[nodiscard]] std::vector<float> load_bias(const std::string& layer,
                                             const LinearSpec& linear) const {
    if (!linear.bias) return {};
    return load_vector(context_, *source_, prefix_ + layer + ".bias", linear.outputs, bf16());
  }

  [[nodiscard]] FloatParameters load_float(const LinearSpec& linear,
                                           const std::string& layer) const {
    const std::string name = prefix_ + layer + ".weight";
    return {
        transposed(name)
            ? load_transposed(context_, *source_, name, linear.outputs, linear.inputs, held_dtype())
            : load_weights(context_, *source_, name, linear.outputs, linear.inputs, held_dtype()),
        load_bias(layer, linear)};
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

  /// Runs the calibration window h through a block in float; h becomes the next block's input.
  ObservedBlock observe_block(std::int64_t n, std::vector<float>& h) {
    Block block = load_float_parts(n);
    const std::vector<LinearSpec> specs = linears_of(config_, names_.linears, block);
    ObservedBlock observed;
    for (const LinearSpec& spec : specs) {
      observed.parameters.push_back(load_float(spec, layer_name(n, spec.name)));
    }
    std::vector<const ObservingLinear*> observers;
    for (std::size_t i = 0; i < specs.size(); ++i) {
      auto layer = std::make_unique<ObservingLinear>(observed.parameters[i].weights,
                                                     observed.parameters[i].bias, plan().threshold);
      observers.push_back(layer.get());
      *specs[i].slot = std::move(layer);
    }
    LayerCache cache;
    const MatrixView<float> window(h.data(), static_cast<std::int64_t>(h.size()) / config_.n_embd,
                                   config_.n_embd);
    Pass pass(config_, Stream::fp32, 0, window.rows());
    run_block(context_, config_, block, n, pass, window, cache);
    for (const ObservingLinear* observer : observers) {
      observed.columns.push_back(observer->outlier_columns());
    }
    return observed;
  }

  /// A block with its norms and its router.
  [[nodiscard]] Block load_float_parts(std::int64_t n) const {
    const PartNames& names = config_.names;
    Block block = empty_block(config_, names_.linears);
    const auto norm = [&](std::string_view name, std::int64_t size) {
      return name.empty() ? Norm{} : load_norm(layer_name(n, name), size);
    };
    block.attention_norm = norm(names.attention_norm, config_.n_embd);
    block.attention_output_norm = norm(names.attention_output_norm, config_.n_embd);
    block.mlp_norm = norm(names.mlp_norm, config_.n_embd);
    block.mlp_output_norm = norm(names.mlp_output_norm, config_.n_embd);
    const bool by_head = config_.qk_norm_per_head;
    block.q_norm = norm(names.q_norm, by_head ? config_.head_dim : config_.q_dim());
    block.k_norm = norm(names.k_norm, by_head ? config_.head_dim : config_.kv_dim());
    if (config_.n_expert > 0) {
      const std::string router = layer_name(n, names.router);
      block.router = load_projection(router, config_.n_expert, config_.n_embd);
    }
    return block;
  }

  /// @param h the calibration window's activations, moved on by this block; empty: no calibration
  Block load_block(std::int64_t n, std::vector<float>& h) {
    Block block = load_float_parts(n);
    const std::vector<LinearSpec> specs = linears_of(config_, names_.linears, block);
    if (h.empty()) {
      for (const LinearSpec& spec : specs) {
        const std::string layer = layer_name(n, spec.name);
        if (maker_.holds_codes(layer)) {
          *spec.slot = maker_.from_stored_codes(layer, spec, load_bias(layer, spec));
          continue;
        }
        *spec.slot = maker_.from_stored_layer(layer, spec, load_bias(layer, spec));
        if (*spec.slot == nullptr) {
          *spec.slot = maker_.quantize(layer, load_float(spec, layer), {});
        }
      }
      return block;
    }
    // What the linears see in float decides which columns keep their weights.
    ObservedBlock observed = observe_block(n, h);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      *specs[i].slot = maker_.quantize(layer_name(n, specs[i].name),
                                       std::move(observed.parameters[i]), observed.columns[i]);
    }
    return block;
  }

  Context& context_;
  const Config& config_;
  const LoadOptions& options_;
  std::unique_ptr<WeightSource> source_;
  const io::Architecture& names_ = *io::find_architecture(config_.model_type);
  bool transposed_ = names_.transposed && source_->keeps_transposed();
  std::string prefix_;
  LayerMaker maker_;
};

}  // namespace

Model load_model(Context& context, const std::filesystem::path& folder, const Config& config,
                 const LoadOptions& options) {
  return Loader(context, folder, config, options).load();
}

OutlierColumns find_outlier_columns(
    Context& context, const std::filesystem::path& folder, const Config& config,
    const std::vector<TokenId>& ids, float threshold,
    const std::function<void(std::int64_t, std::int64_t)>& progress) {
  LoadOptions options;
  options.plan.threshold = threshold;
  options.calibration_ids = ids;
  options.progress = progress;
  return Loader(context, folder, config, options).observe();
}

}  // namespace kvant::models
