#include "models/load/block_layout.hpp"

#include <algorithm>
#include <utility>

namespace kvant::models {

std::string Stack::name(std::int64_t block, std::string_view part) const {
  return std::string(blocks) + "." + std::to_string(block) + "." + std::string(part);
}

std::vector<Stack> stacks_of(const Config& config, const io::Architecture& names) {
  std::vector<Stack> result;
  const bool two = config.kind == ModelKind::encoder_decoder;
  if (two) {
    result.push_back({names.encoder_blocks, &names.encoder_linears, &config.encoder_names,
                      config.n_encoder_layer});
  }
  result.push_back(
      {two ? names.decoder_blocks : names.blocks, &names.linears, &config.names, config.n_layer});
  return result;
}

Block empty_block(const Config& config, const io::BlockLinears& names) {
  Block block;
  block.qkv.parts.resize(names.qkv.empty() ? 3 : 1);
  if (!names.cross_q.empty()) block.cross.kv.parts.resize(2);
  block.mlps.resize(static_cast<std::size_t>(std::max<std::int64_t>(1, config.n_expert)));
  for (Mlp& mlp : block.mlps) {
    mlp.up.parts.resize(config.gated_mlp && !config.fused_gate_up ? 2 : 1);
  }
  return block;
}

std::int64_t LinearSpec::own_outputs() const {
  if (rows.empty()) return outputs;
  std::int64_t count = 0;
  for (const Share& each : rows) count += each.size();
  return count;
}

namespace {

/// Which outputs of a block's layers a rank has.
struct BlockCut {
  const Config& config;
  const Split* split;

  using Rows = std::vector<Share>;

  /// Rows of `heads`, the first of which would begin at row `first`.
  [[nodiscard]] Share rows_of(Share heads, std::int64_t first) const {
    return {first + heads.begin * config.head_dim, first + heads.end * config.head_dim};
  }
  [[nodiscard]] Rows q() const {
    if (split == nullptr) return {};
    return {rows_of(split->heads, 0)};
  }
  [[nodiscard]] Rows kv() const {
    if (split == nullptr) return {};
    return {rows_of(split->kv_heads, 0)};
  }
  [[nodiscard]] Rows fused_qkv() const {
    if (split == nullptr) return {};
    if (!config.qkv_by_head) {
      return {rows_of(split->heads, 0), rows_of(split->kv_heads, config.q_dim()),
              rows_of(split->kv_heads, config.q_dim() + config.kv_dim())};
    }
    // For each key head: its queries, of which a rank may have some, its key, its value.
    const std::int64_t group = config.n_head / config.n_kv_head;
    Rows rows;
    for (std::int64_t g = split->kv_heads.begin; g < split->kv_heads.end; ++g) {
      const std::int64_t first = g * 2 * config.head_dim;  // of what lies between the queries
      const Share queries{std::max(split->heads.begin, g * group),
                          std::min(split->heads.end, (g + 1) * group)};
      rows.push_back(rows_of(queries, first));
      rows.push_back(rows_of({(g + 1) * group, (g + 1) * group + 2}, first));
    }
    return rows;
  }
  [[nodiscard]] Rows width() const {
    if (split == nullptr) return {};
    return {split->width};
  }
  [[nodiscard]] Rows inner(bool twice) const {
    if (split == nullptr) return {};
    if (!twice) return {split->inner};
    return {split->inner, {config.n_inner + split->inner.begin, config.n_inner + split->inner.end}};
  }
  /// How attention's output lies over the ranks, and the MLP's inner columns.
  [[nodiscard]] std::vector<std::int64_t> head_widths() const {
    if (split == nullptr) return {};
    const int ranks = split->ranks->size();
    return std::vector<std::int64_t>(static_cast<std::size_t>(ranks), config.q_dim() / ranks);
  }
  [[nodiscard]] std::vector<std::int64_t> inner_widths() const {
    if (split == nullptr) return {};
    return share_sizes(config.n_inner, split->ranks->size());
  }
};

}  // namespace

std::vector<LinearSpec> linears_of(const Config& config, const io::BlockLinears& names,
                                   Block& block, const Split* split) {
  const BlockCut cut{config, split};
  const std::int64_t width = config.n_embd;
  const std::int64_t inner = config.n_inner;
  std::vector<LinearSpec> result;
  const auto add = [&](std::string name, std::int64_t outputs, std::int64_t inputs, bool bias,
                       std::unique_ptr<LinearLayer>& slot, std::vector<Share> rows,
                       std::vector<std::int64_t> input_widths = {}) {
    result.push_back({std::move(name), outputs, inputs, bias, &slot, false, std::move(rows),
                      std::move(input_widths)});
  };
  auto& qkv = block.qkv.parts;
  if (qkv.size() == 1) {
    add(std::string(names.qkv), config.qkv_dim(), width, config.qkv_bias, qkv[0], cut.fused_qkv());
  } else {
    add(std::string(names.q), config.q_dim(), width, config.qkv_bias, qkv[0], cut.q());
    add(std::string(names.k), config.kv_dim(), width, config.qkv_bias, qkv[1], cut.kv());
    add(std::string(names.v), config.kv_dim(), width, config.qkv_bias, qkv[2], cut.kv());
  }
  add(std::string(names.attention_output), width, config.q_dim(), config.attention_output_bias,
      block.attention_output, cut.width(), cut.head_widths());
  if (!block.cross.kv.parts.empty()) {
    add(std::string(names.cross_q), config.q_dim(), width, config.qkv_bias, block.cross.q, cut.q());
    add(std::string(names.cross_k), config.kv_dim(), width, config.qkv_bias,
        block.cross.kv.parts[0], cut.kv());
    add(std::string(names.cross_v), config.kv_dim(), width, config.qkv_bias,
        block.cross.kv.parts[1], cut.kv());
    add(std::string(names.cross_output), width, config.q_dim(), config.attention_output_bias,
        block.cross.output, cut.width(), cut.head_widths());
  }
  const bool plain = !config.gated_mlp && !names.plain_up.empty();
  for (std::size_t e = 0; e < block.mlps.size(); ++e) {
    const std::string room = config.n_expert > 0
                                 ? std::string(config.names.experts) + "." + std::to_string(e) + "."
                                 : "";
    Mlp& mlp = block.mlps[e];
    auto& up = mlp.up.parts;
    if (up.size() == 2) {
      add(room + std::string(names.gate), inner, width, config.mlp_bias, up[0], cut.inner(false));
    }
    const bool fused = config.fused_gate_up;
    add(room + std::string(plain ? names.plain_up : names.up), fused ? 2 * inner : inner, width,
        config.mlp_bias, up.back(), cut.inner(fused));
    add(room + std::string(names.down), width, inner, config.mlp_bias, mlp.down, cut.width(),
        cut.inner_widths());
  }
  return result;
}

}  // namespace kvant::models
