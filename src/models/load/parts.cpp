#include "models/load/parts.hpp"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "models/decoder/positions.hpp"
#include "models/load/tensors.hpp"

namespace kvant::models {
namespace {

/// 10 log10(sum w^2 / sum (w - w')^2), some rows at a time.
double table_sqnr(Context& context, const WeightMatrix& floats, const PackedWeights& codes) {
  constexpr std::int64_t kRows = 256;
  double signal = 0.0;
  double error = 0.0;
  std::vector<float> scratch;
  std::vector<float> back(static_cast<std::size_t>(kRows * floats.cols()));
  for (std::int64_t first = 0; first < floats.rows(); first += kRows) {
    const std::int64_t rows = std::min(kRows, floats.rows() - first);
    const float* values = floats.widen(context, first, rows, scratch);
    codes.dequantize(MatrixView<float>(back.data(), rows, floats.cols()), first);
    for (std::int64_t i = 0; i < rows * floats.cols(); ++i) {
      const double value = static_cast<double>(values[i]);
      const double off = value - static_cast<double>(back[static_cast<std::size_t>(i)]);
      signal += value * value;
      error += off * off;
    }
  }
  return 10 * std::log10(signal / error);
}

}  // namespace

PartLoader::PartLoader(Context& context, const Config& config, const LoadOptions& options,
                       const WeightSource& source, const Split* split)
    : context_(context),
      config_(config),
      options_(options),
      source_(source),
      split_(split),
      names_(*io::find_architecture(config.model_type)),
      // Base models are saved without the prefix.
      prefix_(source.contains(std::string(names_.tokens) + ".weight") ? "" : names_.prefix),
      stacks_(stacks_of(config, names_)) {}

std::int64_t PartLoader::block_count() const {
  std::int64_t count = 0;
  for (const Stack& stack : stacks_) count += stack.layers;
  return count;
}

LayerName PartLoader::name_of(const std::string& part) const {
  return {prefix_ + part, std::string(names_.prefix) + part, part};
}

std::vector<LinearSpec> PartLoader::linears(const Stack& stack, Block& block) const {
  std::vector<LinearSpec> result = linears_of(config_, *stack.linears, block, split_);
  for (LinearSpec& linear : result) {
    linear.stays_float = names_.keeps_float(linear.name);
  }
  return result;
}

std::optional<LinearSpec> PartLoader::head_linear(Model& model) const {
  const std::string name(config_.names.head_dense);
  if (name.empty() || !source_.contains(name + ".weight")) return std::nullopt;
  return LinearSpec{name, config_.n_embd, config_.n_embd, true, &model.head.dense};
}

bool PartLoader::bf16() const {
  return options_.plan.scheme == Scheme::bf16;
}

/// What float tensors are held as: as stored, unless the scheme says otherwise.
std::optional<DType> PartLoader::held_dtype() const {
  if (options_.plan.scheme == Scheme::fp32) return DType::float32;
  if (bf16()) return DType::bfloat16;
  return std::nullopt;
}

bool PartLoader::transposed(const std::string& tensor) const {
  return names_.transposed && source_.is_transposed(tensor);
}

std::vector<std::uint64_t> PartLoader::shape(const std::string& tensor,
                                             const LinearSpec& linear) const {
  const auto rows = static_cast<std::uint64_t>(linear.outputs);
  const auto cols = static_cast<std::uint64_t>(linear.inputs);
  return transposed(tensor) ? std::vector{cols, rows} : std::vector{rows, cols};
}

std::vector<float> PartLoader::vector(const std::string& name, std::int64_t size,
                                      const std::vector<Share>& parts) const {
  return load_vector(context_, source_, name, size, bf16(), parts);
}

std::vector<Share> PartLoader::vocabulary() const {
  if (split_ == nullptr) return {};
  return {split_->vocabulary};
}

std::unique_ptr<LinearLayer> PartLoader::float_projection(const std::string& part,
                                                          std::int64_t outputs,
                                                          std::int64_t inputs) const {
  if (part.empty()) return nullptr;
  const LinearSpec spec{part, outputs, inputs, false, nullptr, true};
  FloatParameters parameters = linear(spec, name_of(part));
  return std::make_unique<FloatLinear>(std::move(parameters.weights), std::move(parameters.bias));
}

std::vector<float> PartLoader::bias(const LinearSpec& linear, const LayerName& name) const {
  if (!linear.bias) return {};
  return vector(name.file + ".bias", linear.outputs, linear.rows);
}

WeightMatrix PartLoader::weights(const LinearSpec& linear, const LayerName& name) const {
  const std::string tensor = name.file + ".weight";
  const auto load = transposed(tensor) ? load_transposed : load_weights;
  return load(context_, source_, tensor, linear.outputs, linear.inputs, held_dtype(), linear.rows);
}

FloatParameters PartLoader::linear(const LinearSpec& linear, const LayerName& name) const {
  return {weights(linear, name), bias(linear, name)};
}

Norm PartLoader::norm(const std::string& name, std::int64_t size) const {
  if (name.empty()) return {};
  const bool old = !source_.contains(name + ".weight") && source_.contains(name + ".gamma");
  Norm norm;
  norm.weight = vector(name + (old ? ".gamma" : ".weight"), size);
  for (float& value : norm.weight) value += config_.norm_offset;
  if (config_.norm_bias) norm.bias = vector(name + (old ? ".beta" : ".bias"), size);
  return norm;
}

Norm PartLoader::final_norm(const Stack& stack) const {
  if (stack.parts->final_norm.empty()) return {};
  return norm(prefix_ + std::string(stack.parts->final_norm), config_.n_embd);
}

std::vector<float> PartLoader::distance_bias(const Stack& stack, bool both_ways) const {
  if (config_.positions != Positions::relative) return {};
  const std::string name = prefix_ + stack.name(0, stack.parts->position_bias) + ".weight";
  const WeightMatrix table =
      load_weights(context_, source_, name, config_.relative.buckets, config_.n_head,
                   bf16() ? DType::bfloat16 : DType::float32);
  std::vector<float> scratch;
  const float* values = table.widen(context_, 0, config_.relative.buckets, scratch);
  const std::int64_t reach = config_.relative.max_distance;
  std::vector<float> result;
  result.reserve(static_cast<std::size_t>(config_.n_head * (2 * reach + 1)));
  const Share heads = split_ != nullptr ? split_->heads : Share{0, config_.n_head};
  for (std::int64_t head = heads.begin; head < heads.end; ++head) {
    for (std::int64_t distance = -reach; distance <= reach; ++distance) {
      const std::int64_t bucket = relative_bucket(config_.relative, distance, both_ways);
      result.push_back(values[bucket * config_.n_head + head]);
    }
  }
  return result;
}

Block PartLoader::norms(const Stack& stack, std::int64_t n) const {
  const PartNames& names = *stack.parts;
  Block block = empty_block(config_, *stack.linears);
  const auto load = [&](std::string_view name, std::int64_t size) {
    return name.empty() ? Norm{} : norm(prefix_ + stack.name(n, name), size);
  };
  block.attention_norm = load(names.attention_norm, config_.n_embd);
  block.attention_output_norm = load(names.attention_output_norm, config_.n_embd);
  block.mlp_norm = load(names.mlp_norm, config_.n_embd);
  block.mlp_output_norm = load(names.mlp_output_norm, config_.n_embd);
  block.cross.norm = load(names.cross_norm, config_.n_embd);
  const bool by_head = config_.qk_norm_per_head;
  block.q_norm = load(names.q_norm, by_head ? config_.head_dim : config_.q_dim());
  block.k_norm = load(names.k_norm, by_head ? config_.head_dim : config_.kv_dim());
  return block;
}

bool PartLoader::has_own_head() const {
  return !config_.tie_word_embeddings ||
         (config_.head_may_be_stored && source_.contains(head_tensor()));
}

std::string PartLoader::token_table() const {
  const std::string table = prefix_ + std::string(names_.tokens) + ".weight";
  return config_.tie_word_embeddings && !source_.contains(table) ? head_tensor() : table;
}

std::string PartLoader::position_table() const {
  return prefix_ + std::string(names_.positions) + ".weight";
}

std::int64_t PartLoader::positions() const {
  return config_.position_offset + config_.n_positions;
}

/// What stands beside and behind the tables of tokens and positions.
void PartLoader::around(Model& model) const {
  if (config_.n_token_type > 0) {
    model.token_types = load_weights(context_, source_,
                                     prefix_ + std::string(config_.names.token_types) + ".weight",
                                     config_.n_token_type, config_.n_embd, held_dtype());
  }
  const std::string norm_name(config_.names.embedding_norm);
  if (!norm_name.empty()) model.embedding_norm = norm(prefix_ + norm_name, config_.n_embd);
}

TokenTable PartLoader::token_table_of(const std::string& tensor,
                                      std::optional<double>* sqnr_db) const {
  const std::int64_t rows = config_.vocab_size;
  const std::int64_t width = config_.embedding_size;
  const Embeddings& wanted = options_.plan.embeddings;
  ActivationOptions activations;
  // A row's logits do not depend on the rows beside it.
  activations.outliers = Outliers::per_row;
  activations.arithmetic = options_.plan.arithmetic;
  if (wanted.kind == Embeddings::Kind::stored && source_.is_quantized(tensor)) {
    if (std::optional<PackedLayer> codes =
            split_ == nullptr ? source_.packed(context_, tensor)
                              : source_.packed_rows(context_, tensor, vocabulary())) {
      source_.release(tensor);
      return TokenTable(Linear::from(std::move(codes->weights), {}, activations));
    }
  }
  WeightMatrix floats =
      load_weights(context_, source_, tensor, rows, width, held_dtype(), vocabulary());
  if (wanted.kind != Embeddings::Kind::packed) return TokenTable(std::move(floats));
  PackedWeights codes = PackedWeights::quantize(context_, floats.view(), wanted.format);
  if (sqnr_db != nullptr) *sqnr_db = table_sqnr(context_, floats, codes);
  return TokenTable(Linear::from(std::move(codes), {}, activations));
}

void PartLoader::tables(Model& model) const {
  model.wte = token_table_of(token_table(), &model.table_sqnr_db);
  if (config_.positions == Positions::learned) {
    model.wpe = load_weights(context_, source_, position_table(), positions(), config_.n_embd,
                             held_dtype());
  }
  if (has_own_head()) {
    model.own_lm_head = token_table_of(head_tensor(), nullptr);
  }
  around(model);
}

void PartLoader::table_rows(Model& model, const std::vector<TokenId>& ids) const {
  model.config = config_;
  model.config.vocab_size = static_cast<std::int64_t>(ids.size());
  model.config.position_offset = 0;
  model.wte = TokenTable(load_rows(source_, token_table(), config_.vocab_size,
                                   config_.embedding_size, {ids.begin(), ids.end()}));
  if (config_.positions == Positions::learned) {
    std::vector<std::int64_t> rows(ids.size());
    std::iota(rows.begin(), rows.end(), config_.position_offset);
    model.wpe = load_rows(source_, position_table(), positions(), config_.n_embd, rows);
  }
  around(model);
}

std::vector<float> PartLoader::embed_window(const std::vector<TokenId>& ids) const {
  std::vector<TokenId> places(ids.size());
  std::iota(places.begin(), places.end(), TokenId{0});
  Model window;
  table_rows(window, ids);
  window.project_in = float_projection(std::string(config_.names.project_in), config_.n_embd,
                                       config_.embedding_size);
  return embed(context_, window, places, 0);
}

void PartLoader::head_parts(Model& model) const {
  if (model.head.dense == nullptr) return;
  model.head.norm = norm(std::string(config_.names.head_norm), config_.n_embd);
  const std::string bias = std::string(config_.names.head_bias);
  const std::string other = std::string(names_.head) + ".bias";
  model.head.bias = vector(source_.contains(bias) ? bias : other, config_.vocab_size, vocabulary());
}

}  // namespace kvant::models
