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

std::vector<LinearSpec> linears_of(const Config& config, const io::BlockLinears& names,
                                   Block& block) {
  const std::int64_t width = config.n_embd;
  const std::int64_t inner = config.n_inner;
  std::vector<LinearSpec> result;
  const auto add = [&](std::string name, std::int64_t outputs, std::int64_t inputs, bool bias,
                       std::unique_ptr<LinearLayer>& slot) {
    result.push_back({std::move(name), outputs, inputs, bias, &slot});
  };
  auto& qkv = block.qkv.parts;
  if (qkv.size() == 1) {
    add(std::string(names.qkv), config.qkv_dim(), width, config.qkv_bias, qkv[0]);
  } else {
    add(std::string(names.q), config.q_dim(), width, config.qkv_bias, qkv[0]);
    add(std::string(names.k), config.kv_dim(), width, config.qkv_bias, qkv[1]);
    add(std::string(names.v), config.kv_dim(), width, config.qkv_bias, qkv[2]);
  }
  add(std::string(names.attention_output), width, config.q_dim(), config.attention_output_bias,
      block.attention_output);
  if (!block.cross.kv.parts.empty()) {
    add(std::string(names.cross_q), config.q_dim(), width, config.qkv_bias, block.cross.q);
    add(std::string(names.cross_k), config.kv_dim(), width, config.qkv_bias,
        block.cross.kv.parts[0]);
    add(std::string(names.cross_v), config.kv_dim(), width, config.qkv_bias,
        block.cross.kv.parts[1]);
    add(std::string(names.cross_output), width, config.q_dim(), config.attention_output_bias,
        block.cross.output);
  }
  const bool plain = !config.gated_mlp && !names.plain_up.empty();
  for (std::size_t e = 0; e < block.mlps.size(); ++e) {
    const std::string room = config.n_expert > 0
                                 ? std::string(config.names.experts) + "." + std::to_string(e) + "."
                                 : "";
    Mlp& mlp = block.mlps[e];
    auto& up = mlp.up.parts;
    if (up.size() == 2) {
      add(room + std::string(names.gate), inner, width, config.mlp_bias, up[0]);
    }
    add(room + std::string(plain ? names.plain_up : names.up),
        config.fused_gate_up ? 2 * inner : inner, width, config.mlp_bias, up.back());
    add(room + std::string(names.down), width, inner, config.mlp_bias, mlp.down);
  }
  return result;
}

}  // namespace kvant::models
