#include "kvant/models/model.hpp"

#include <algorithm>
#include <string>

#include "kvant/error.hpp"

namespace kvant::models {

std::size_t Model::weight_bytes() const {
  const std::size_t element = stream == Stream::bf16 ? sizeof(bfloat16) : sizeof(float);
  const auto norm = [element](const LayerNorm& n) {
    return (n.weight.size() + n.bias.size()) * element;
  };
  std::size_t total = wte.bytes() + wpe.bytes() + own_lm_head.bytes() + norm(ln_f);
  for (const Block& block : blocks) {
    total += norm(block.ln_1) + norm(block.ln_2) + block.c_attn->weight_bytes() +
             block.attn_c_proj->weight_bytes() + block.c_fc->weight_bytes() +
             block.mlp_c_proj->weight_bytes();
  }
  return total;
}

std::vector<float> embed(Context& context, const Model& model, std::span<const TokenId> ids,
                         std::int64_t first_position) {
  const Config& config = model.config;
  const auto tokens = static_cast<std::int64_t>(ids.size());
  if (first_position + tokens > config.n_positions) {
    throw Error(ErrorCode::out_of_range, std::to_string(first_position + tokens) +
                                             " tokens, but the model has n_positions " +
                                             std::to_string(config.n_positions));
  }
  for (const TokenId id : ids) {
    if (id < 0 || id >= config.vocab_size) {
      throw Error(ErrorCode::out_of_range, "the id " + std::to_string(id) +
                                               " is not below vocab_size " +
                                               std::to_string(config.vocab_size));
    }
  }
  const auto width = static_cast<std::size_t>(config.n_embd);
  std::vector<float> h(ids.size() * width);
  std::vector<float> token_row;
  std::vector<float> position_row;
  for (std::size_t t = 0; t < ids.size(); ++t) {
    const float* token = model.wte.widen(context, ids[t], 1, token_row);
    const float* position =
        model.wpe.widen(context, first_position + static_cast<std::int64_t>(t), 1, position_row);
    for (std::size_t c = 0; c < width; ++c) h[t * width + c] = token[c] + position[c];
  }
  if (model.stream == Stream::bf16) {
    round_to_bfloat16(h.data(), static_cast<std::int64_t>(h.size()));
  }
  return h;
}

std::vector<float> forward(Context& context, const Model& model, std::span<const TokenId> ids,
                           Cache& cache) {
  std::vector<float> h = embed(context, model, ids, cache.length);
  cache.layers.resize(model.blocks.size());
  const MatrixView<float> view(h.data(), static_cast<std::int64_t>(ids.size()),
                               model.config.n_embd);
  for (std::size_t n = 0; n < model.blocks.size(); ++n) {
    run_block(context, model.config, model.blocks[n], model.stream, view, cache.layers[n]);
  }
  cache.length += static_cast<std::int64_t>(ids.size());
  std::vector<float> result(h.size());
  layer_norm(context, view, model.ln_f, model.config.layer_norm_epsilon, model.stream,
             {result.data(), view.rows(), view.cols()});
  return result;
}

std::vector<float> prefill(Context& context, const Model& model, std::span<const TokenId> ids,
                           Cache& cache, std::int64_t chunk) {
  const auto step = model.rows_are_independent
                        ? static_cast<std::size_t>(std::max<std::int64_t>(1, chunk))
                        : std::max<std::size_t>(1, ids.size());
  if (cache.length + static_cast<std::int64_t>(ids.size()) > model.config.n_positions) {
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
  multiply_float(context, hidden, model.lm_head(), {}, logits);
}

}  // namespace kvant::models
