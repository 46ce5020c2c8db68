#include "kvant/models/block.hpp"

#include "models/decoder/rows.hpp"

namespace kvant::models {

void Projection::forward(Context& context, LayerInput& x, MatrixView<float> y) const {
  std::int64_t column = 0;
  for (const auto& part : parts) {
    part->start(context, x, {y.data() + column, y.rows(), part->out_features(), y.stride()});
    column += part->out_features();
  }
  x.finish();
}

std::size_t Projection::weight_bytes() const {
  std::size_t total = 0;
  for (const auto& part : parts) total += part->weight_bytes();
  return total;
}

void run_block(Context& context, const Config& config, const Block& block, std::int64_t layer,
               Pass& pass, MatrixView<float> h, LayerCache& cache, const LayerCache* source) {
  const std::int64_t tokens = h.rows();
  const Stream stream = pass.stream;
  const auto view = [tokens](std::vector<float>& memory, std::int64_t columns) {
    memory.resize(static_cast<std::size_t>(tokens * columns));
    return MatrixView<float>(memory.data(), tokens, columns);
  };
  const MatrixView<float> a = view(pass.normed, config.n_embd);
  const MatrixView<float> y = view(pass.added, config.n_embd);
  const bool norms_first = config.residual != Residual::post_norm;

  /// What a part of the block reads: norm(h), or h.
  const auto read = [&](const Norm& norm, bool shared) {
    if (norm.empty() || !norms_first) return LayerInput(h, shared ? &pass.activations : nullptr);
    normalize(context, config, h, norm, stream, a);
    return LayerInput(a, shared ? &pass.activations : nullptr);
  };
  const auto add_to_stream = [&](const Norm& norm_before, const Norm& norm_after) {
    if (!norm_before.empty()) normalize(context, config, y, norm_before, stream, y);
    Eigen::Map<Eigen::ArrayXf> stream_values(h.data(), h.size());
    const ConstArrayMap added(y.data(), y.size());
    if (config.residual_multiplier == 1.0f) {
      stream_values += added;
    } else {
      stream_values += added * config.residual_multiplier;
    }
    if (stream == Stream::bf16) round_to_bfloat16(h.data(), h.size());
    if (!norms_first) normalize(context, config, h, norm_after, stream, h);
  };

  const bool one_input = config.residual == Residual::parallel && block.mlp_norm.empty();
  LayerInput input = read(block.attention_norm, one_input || block.qkv.parts.size() > 1);
  const MatrixView<float> qkv = view(pass.qkv, config.qkv_dim());
  const MatrixView<float> attended = view(pass.attended, config.q_dim());
  block.qkv.forward(context, input, qkv);
  attention(context, config, block, layer, pass, qkv, cache, attended);
  LayerInput output(attended);
  block.attention_output->forward(context, output, y);

  const bool mlp_shares = block.mlps.front().up.parts.size() > 1;
  if (config.residual != Residual::parallel) {
    add_to_stream(block.attention_output_norm, block.attention_norm);
    if (source != nullptr) {
      LayerInput cross_input = read(block.cross.norm, false);
      const MatrixView<float> q = view(pass.qkv, config.q_dim());
      block.cross.q->forward(context, cross_input, q);
      cross_attention(context, config, pass, q, *source, attended);
      LayerInput cross_output(attended);
      block.cross.output->forward(context, cross_output, y);
      add_to_stream({}, block.cross.norm);
    }
    LayerInput mlp_input = read(block.mlp_norm, mlp_shares);
    run_mlp(context, config, block, pass, mlp_input, y);
    add_to_stream(block.mlp_output_norm, block.mlp_norm);
    return;
  }
  const MatrixView<float> from_mlp = view(pass.attended, config.n_embd);
  if (one_input) {
    run_mlp(context, config, block, pass, input, from_mlp);
  } else {
    LayerInput mlp_input = read(block.mlp_norm, mlp_shares);
    run_mlp(context, config, block, pass, mlp_input, from_mlp);
  }
  ArrayMap(y.data(), y.size()) += ConstArrayMap(from_mlp.data(), from_mlp.size());
  add_to_stream({}, {});
}

}  // namespace kvant::models
