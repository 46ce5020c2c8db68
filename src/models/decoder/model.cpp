#include "kvant/models/model.hpp"

#include <algorithm>
#include <string>

#include "kvant/error.hpp"
#include "models/decoder/rows.hpp"

namespace kvant::models {

std::size_t Model::weight_bytes() const {
  const std::size_t element = stream == Stream::bf16 ? sizeof(bfloat16) : sizeof(float);
  const auto norm = [element](const Norm& n) {
    return (n.weight.size() + n.bias.size()) * element;
  };
  const auto linear = [](const std::unique_ptr<LinearLayer>& layer) {
    return layer == nullptr ? 0 : layer->weight_bytes();
  };
  std::size_t total = wte.bytes() + wpe.bytes() + own_lm_head.bytes() + norm(embedding_norm) +
                      norm(final_norm) + linear(project_in) + linear(project_out);
  for (const Block& block : blocks) {
    for (const Norm* each : {&block.attention_norm, &block.attention_output_norm, &block.mlp_norm,
                             &block.mlp_output_norm, &block.q_norm, &block.k_norm}) {
      total += norm(*each);
    }
    total += block.qkv.weight_bytes() + linear(block.attention_output) + linear(block.router);
    for (const Mlp& mlp : block.mlps) total += mlp.up.weight_bytes() + linear(mlp.down);
  }
  return total;
}

std::vector<float> embed(Context& context, const Model& model, std::span<const TokenId> ids,
                         std::int64_t first_position) {
  const Config& config = model.config;
  const auto tokens = static_cast<std::int64_t>(ids.size());
  if (first_position + tokens > config.position_limit()) {
    throw Error(ErrorCode::out_of_range, std::to_string(first_position + tokens) +
                                             " tokens, but the model has n_positions " +
                                             std::to_string(config.position_limit()));
  }
  for (const TokenId id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      throw Error(ErrorCode::out_of_range, "the id " + std::to_string(id) +
                                               " is not below vocab_size " +
                                               std::to_string(config.vocab_size));
    }
  }
  const bool bf16 = model.stream == Stream::bf16;
  const auto rounded = [bf16](std::vector<float>& values) {
    if (bf16) round_to_bfloat16(values.data(), static_cast<std::int64_t>(values.size()));
  };
  const auto table_width = static_cast<std::size_t>(config.embedding_size);
  std::vector<float> h(ids.size() * table_width);
  std::vector<float> scratch;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const float* token = model.wte.widen(context, ids[t], 1, scratch);
    float* row = h.data() + t * table_width;
    std::copy(token, token + table_width, row);
    if (config.embedding_multiplier == 1.0f) continue;
    for (std::size_t c = 0; c < table_width; ++c) row[c] *= config.embedding_multiplier;
  }
  const auto width = static_cast<std::size_t>(config.n_embd);
  if (model.project_in != nullptr) {
    LayerInput input(MatrixView<const float>(h.data(), tokens, config.embedding_size));
    std::vector<float> projected(ids.size() * width);
    model.project_in->forward(context, input, {projected.data(), tokens, config.n_embd});
    h = std::move(projected);
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

std::vector<float> forward(Context& context, const Model& model, std::span<const TokenId> ids,
                           Cache& cache) {
  std::vector<float> h = embed(context, model, ids, cache.length);
  cache.layers.resize(model.blocks.size(), LayerCache{cache.format});
  const auto tokens = static_cast<std::int64_t>(ids.size());
  const MatrixView<float> view(h.data(), tokens, model.config.n_embd);
  Pass pass(model.config, model.stream, cache.length, tokens, std::move(cache.memory));
  for (std::size_t n = 0; n < model.blocks.size(); ++n) {
    run_block(context, model.config, model.blocks[n], static_cast<std::int64_t>(n), pass, view,
              cache.layers[n]);
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
  if (model.project_out != nullptr) {
    std::vector<float> projected(static_cast<std::size_t>(hidden.rows() * config.embedding_size));
    const MatrixView<float> view(projected.data(), hidden.rows(), config.embedding_size);
    LayerInput input(hidden);
    model.project_out->forward(context, input, view);
    multiply_float(context, view, model.lm_head(), {}, logits);
  } else {
    multiply_float(context, hidden, model.lm_head(), {}, logits);
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
