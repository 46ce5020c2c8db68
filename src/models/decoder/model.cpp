#include "kvant/models/model.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "kvant/error.hpp"
#include "kvant/matrix.hpp"
#include "models/decoder/rows.hpp"

namespace kvant::models {

namespace {

std::size_t linear_bytes(const std::unique_ptr<LinearLayer>& layer) {
  return layer == nullptr ? 0 : layer->weight_bytes();
}

std::size_t block_bytes(const Block& block, std::size_t element) {
  std::size_t total = 0;
  for (const Norm* each :
       {&block.attention_norm, &block.attention_output_norm, &block.mlp_norm,
        &block.mlp_output_norm, &block.q_norm, &block.k_norm, &block.cross.norm}) {
    total += (each->weight.size() + each->bias.size()) * element;
  }
  total += block.qkv.weight_bytes() + linear_bytes(block.attention_output) +
           linear_bytes(block.router) + linear_bytes(block.cross.q) +
           block.cross.kv.weight_bytes() + linear_bytes(block.cross.output);
  for (const Mlp& mlp : block.mlps) total += mlp.up.weight_bytes() + linear_bytes(mlp.down);
  return total;
}

void check_ids(const Config& config, std::span<const TokenId> ids,
               std::span<const std::int32_t> token_types) {
  for (const TokenId id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      throw Error(ErrorCode::out_of_range, "the id " + std::to_string(id) +
                                               " is not below vocab_size " +
                                               std::to_string(config.vocab_size));
    }
  }
  if (!token_types.empty() && token_types.size() != ids.size()) {
    throw Error(ErrorCode::invalid_argument, std::to_string(token_types.size()) +
                                                 " token types for " + std::to_string(ids.size()) +
                                                 " ids");
  }
  for (const std::int32_t type : token_types) {
    if (type < 0 || type >= std::max<std::int64_t>(1, config.n_token_type)) {
      throw Error(ErrorCode::out_of_range, "the token type " + std::to_string(type) +
                                               " is not one of the model's " +
                                               std::to_string(config.n_token_type));
    }
  }
}

/// Each row is on one rank and all zero bits on the others; afterwards it is on all.
void share_rows(Ranks& ranks, std::span<float> rows) {
  std::vector<std::uint32_t> bits(rows.size());
  std::memcpy(bits.data(), rows.data(), rows.size_bytes());
  ranks.all_or(bits);
  std::memcpy(rows.data(), bits.data(), rows.size_bytes());
}

}  // namespace

std::size_t Model::weight_bytes() const {
  const std::size_t element = stream == Stream::bf16 ? sizeof(bfloat16) : sizeof(float);
  std::size_t total = wte.bytes() + wpe.bytes() + token_types.bytes() + own_lm_head.bytes() +
                      linear_bytes(project_in) + linear_bytes(project_out) +
                      linear_bytes(head.dense);
  for (const Norm* norm : {&embedding_norm, &final_norm, &encoder.final_norm, &head.norm}) {
    total += (norm->weight.size() + norm->bias.size()) * element;
  }
  total += head.bias.size() * element;
  for (const Block& block : encoder.blocks) total += block_bytes(block, element);
  for (const Block& block : blocks) total += block_bytes(block, element);
  if (config.positions == Positions::relative) {
    const std::size_t stacks = encoder.blocks.empty() ? 1 : 2;
    total += stacks * static_cast<std::size_t>(config.relative.buckets * block_config().n_head) *
             element;
  }
  return total;
}

std::vector<float> embed(Context& context, const Model& model, std::span<const TokenId> ids,
                         std::int64_t first_position, std::span<const std::int32_t> token_types) {
  const Config& config = model.config;
  const auto tokens = static_cast<std::int64_t>(ids.size());
  if (first_position + tokens > config.position_limit()) {
    throw Error(ErrorCode::out_of_range, std::to_string(first_position + tokens) +
                                             " tokens, but the model has n_positions " +
                                             std::to_string(config.position_limit()));
  }
  check_ids(config, ids, token_types);
  const bool bf16 = model.stream == Stream::bf16;
  const auto rounded = [bf16](std::vector<float>& values) {
    if (bf16) round_to_bfloat16(values.data(), static_cast<std::int64_t>(values.size()));
  };
  const auto table_width = static_cast<std::size_t>(config.embedding_size);
  std::vector<float> h(ids.size() * table_width);
  std::vector<float> scratch;
  const Share held = model.split ? model.split->vocabulary : Share{0, config.vocab_size};
  for (std::size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] < held.begin || ids[t] >= held.end) continue;  // another rank's
    const float* token = model.wte.row(context, ids[t] - held.begin, scratch);
    std::copy(token, token + table_width, h.data() + t * table_width);
  }
  if (model.split) share_rows(*model.split->ranks, h);
  if (config.embedding_multiplier != 1.0f) {
    for (float& value : h) value *= config.embedding_multiplier;
  }
  const auto width = static_cast<std::size_t>(config.n_embd);
  if (model.project_in != nullptr) {
    LayerInput input(MatrixView<const float>(h.data(), tokens, config.embedding_size));
    std::vector<float> projected(ids.size() * width);
    model.project_in->forward(context, input, {projected.data(), tokens, config.n_embd});
    h = std::move(projected);
  }
  if (config.n_token_type > 0) {
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const std::int64_t row = token_types.empty() ? 0 : token_types[t];
      const float* type = model.token_types.widen(context, row, 1, scratch);
      for (std::size_t c = 0; c < width; ++c) h[t * width + c] += type[c];
    }
  }
  if (config.positions == Positions::learned) {
    for (std::size_t t = 0; t < ids.size(); ++t) {
      const std::int64_t row =
          config.position_offset + first_position + static_cast<std::int64_t>(t);
      const float* position = model.wpe.widen(context, row, 1, scratch);
      for (std::size_t c = 0; c < width; ++c) h[t * width + c] += position[c];
    }
  }
  rounded(h);
  if (!model.embedding_norm.empty()) {
    const MatrixView<float> view(h.data(), tokens, config.n_embd);
    normalize(context, config, view, model.embedding_norm, model.stream, view);
  }
  return h;
}

std::vector<float> encode(Context& context, const Model& model, std::span<const TokenId> ids,
                          std::span<const std::int32_t> token_types) {
  const Config& config = model.config;
  if (config.kind == ModelKind::decoder) {
    throw Error(ErrorCode::unsupported, std::string(config.model_type) +
                                            " is a decoder: its tokens do not see those behind "
                                            "them; use forward()");
  }
  const bool alone = config.kind == ModelKind::encoder;
  std::vector<float> h = embed(context, model, ids, 0, token_types);
  const MatrixView<float> view(h.data(), static_cast<std::int64_t>(ids.size()), config.n_embd);
  Pass pass(model.block_config(), model.stream, 0, view.rows());
  pass.causal = false;
  pass.distance_bias = alone ? model.distance_bias : model.encoder.distance_bias;
  LayerCache keys_and_values;
  const std::vector<Block>& blocks = alone ? model.blocks : model.encoder.blocks;
  for (std::size_t n = 0; n < blocks.size(); ++n) {
    keys_and_values.clear();
    run_block(context, model.block_config(), blocks[n], static_cast<std::int64_t>(n), pass, view,
              keys_and_values);
  }
  const Norm& norm = alone ? model.final_norm : model.encoder.final_norm;
  if (!norm.empty()) normalize(context, config, view, norm, model.stream, view);
  return h;
}

void read_source(Context& context, const Model& model, std::span<const TokenId> ids, Cache& cache) {
  const Config& config = model.config;
  if (config.kind != ModelKind::encoder_decoder) {
    throw Error(ErrorCode::unsupported,
                std::string(config.model_type) + " has no encoder beside a decoder");
  }
  if (ids.empty()) {
    throw Error(ErrorCode::invalid_argument, "the text to encode has no ids");
  }
  const std::vector<float> states = encode(context, model, ids);
  const MatrixView<const float> view(states.data(), static_cast<std::int64_t>(ids.size()),
                                     config.n_embd);
  cache.clear();
  Pass pass(model.block_config(), model.stream, 0, view.rows(), std::move(cache.memory));
  cache.source.assign(model.blocks.size(), LayerCache{cache.format});
  for (std::size_t n = 0; n < model.blocks.size(); ++n) {
    read_source(context, model.block_config(), model.blocks[n], pass, view, cache.source[n]);
  }
  cache.memory = std::move(static_cast<PassMemory&>(pass));
}

std::vector<float> forward(Context& context, const Model& model, std::span<const TokenId> ids,
                           Cache& cache) {
  if (model.config.kind == ModelKind::encoder) {
    throw Error(ErrorCode::unsupported,
                std::string(model.config.model_type) +
                    " is an encoder: a text is read at once, by encode(), and not continued");
  }
  const bool reads = model.config.kind == ModelKind::encoder_decoder;
  if (reads && cache.source.size() != model.blocks.size()) {
    throw Error(ErrorCode::invalid_argument,
                "the decoder has no encoded text to see: read_source() comes first");
  }
  std::vector<float> h = embed(context, model, ids, cache.length);
  cache.layers.resize(model.blocks.size(), LayerCache{cache.format});
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const MatrixView<float> view(h.data(), tokens, model.config.n_embd);
  Pass pass(model.block_config(), model.stream, cache.length, tokens, std::move(cache.memory));
  pass.distance_bias = model.distance_bias;
  try {
    for (std::size_t n = 0; n < model.blocks.size(); ++n) {
      if (cache.cancel != nullptr && *cache.cancel) {
        throw Error(ErrorCode::cancelled, "interrupted");
      }
      run_block(context, model.block_config(), model.blocks[n], static_cast<std::int64_t>(n), pass,
                view, cache.layers[n], reads ? &cache.source[n] : nullptr);
    }
  } catch (...) {
    cache.clear();  // some layers have the call's tokens, others do not
    throw;
  }
  cache.length += tokens;
  cache.memory = std::move(static_cast<PassMemory&>(pass));
  if (!model.final_norm.empty()) {
    normalize(context, model.config, view, model.final_norm, model.stream, view);
  }
  return h;
}

std::vector<float> prefill(Context& context, const Model& model, std::span<const TokenId> ids,
                           Cache& cache, std::int64_t chunk) {
  // Dynamic rotary frequencies depend on a call's length.
  const bool cut =
      model.rows_are_independent && model.config.rotary.scaling != RotaryScaling::dynamic;
  const auto step = cut ? static_cast<std::size_t>(std::max<std::int64_t>(1, chunk))
                        : std::max<std::size_t>(1, ids.size());
  if (cache.length + static_cast<std::int64_t>(ids.size()) > model.config.position_limit()) {
    (void)embed(context, model, ids, cache.length);  // throws before anything is computed
  }
  std::vector<float> hidden;
  for (std::size_t done = 0; done < ids.size(); done += step) {
    hidden = forward(context, model, ids.subspan(done, std::min(step, ids.size() - done)), cache);
  }
  const auto width = static_cast<std::ptrdiff_t>(model.config.n_embd);
  if (!hidden.empty()) hidden.erase(hidden.begin(), hidden.end() - width);
  return hidden;
}

void compute_logits(Context& context, const Model& model, MatrixView<const float> hidden,
                    MatrixView<float> logits) {
  const Config& config = model.config;
  if (config.kind == ModelKind::encoder && model.head.dense == nullptr) {
    throw Error(ErrorCode::unsupported,
                "this " + std::string(config.model_type) + " was stored without its head (" +
                    std::string(config.names.head_dense) + "): it gives hidden states, not logits");
  }
  std::vector<float> made;  // what the head reads, where it is not `hidden`
  if (model.project_out != nullptr || model.head.dense != nullptr) {
    const bool projects = model.project_out != nullptr;
    const std::int64_t width = projects ? config.embedding_size : config.n_embd;
    made.resize(static_cast<std::size_t>(hidden.rows() * width));
    const MatrixView<float> view(made.data(), hidden.rows(), width);
    LayerInput input(hidden);
    (projects ? model.project_out : model.head.dense)->forward(context, input, view);
    if (!projects) {
      apply_activation(context, config.activation, model.stream, view);
      normalize(context, config, view, model.head.norm, model.stream, view);
    }
    hidden = view;
  }
  if (model.split) {
    Ranks& ranks = *model.split->ranks;
    Matrix<float> own(hidden.rows(), model.lm_head().rows());
    if (own.cols() > 0) model.lm_head().multiply(context, hidden, model.head.bias, own);
    ranks.gather_columns(own, share_sizes(config.vocab_size, ranks.size(), kVocabularyUnit),
                         logits);
  } else {
    model.lm_head().multiply(context, hidden, model.head.bias, logits);
  }
  if (config.logit_divisor == 1.0f && config.logit_softcap == 0.0f) return;
  by_rows(context, logits.rows(), kExpCost * logits.size(),
          [&](std::int64_t begin, std::int64_t end) {
            for (std::int64_t r = begin; r < end; ++r) {
              ArrayMap row(logits.row_data(r), logits.cols());
              row = row / config.logit_divisor;
              if (config.logit_softcap > 0) {
                row = (row / config.logit_softcap).tanh() * config.logit_softcap;
              }
            }
          });
}

}  // namespace kvant::models
