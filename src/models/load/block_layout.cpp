#include "models/load/block_layout.hpp"

#include <algorithm>
#include <utility>

namespace kvant::models {

Block empty_block(const Config& config, const io::BlockLinears& names) {
  Block block;
  block.qkv.parts.resize(names.qkv.empty() ? 3 : 1);
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
  for (std::size_t e = 0; e < block.mlps.size(); ++e) {
    const std::string room = config.n_expert > 0
                                 ? std::string(config.names.experts) + "." + std::to_string(e) + "."
                                 : "";
    Mlp& mlp = block.mlps[e];
    auto& up = mlp.up.parts;
    if (up.size() == 2) {
      add(room + std::string(names.gate), inner, width, config.mlp_bias, up[0]);
    }
    add(room + std::string(names.up), config.fused_gate_up ? 2 * inner : inner, width,
        config.mlp_bias, up.back());
    add(room + std::string(names.down), width, inner, config.mlp_bias, mlp.down);
  }
  return result;
}

}  // namespace kvant::models
