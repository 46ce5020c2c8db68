#include "models/gguf/tensor_map.hpp"

#include <utility>

#include "kvant/io/architecture.hpp"
#include "models/load/block_layout.hpp"

namespace kvant::models {

std::int64_t RowOrder::in_folder(std::int64_t row) const noexcept {
  if (kind == Kind::same) return row;
  const std::int64_t in_head = row % head_dim;
  if (kind == Kind::pairs) {
    return row - in_head + in_head % 2 * (head_dim / 2) + in_head / 2;
  }
  const std::int64_t head = row / head_dim;
  const std::int64_t queries = group * kv_heads;
  std::int64_t kv_head = head / group;
  std::int64_t place = head % group;
  if (head >= queries) {
    kv_head = (head - queries) % kv_heads;
    place = group + (head - queries) / kv_heads;
  }
  return (kv_head * (group + 2) + place) * head_dim + in_head;
}

std::int64_t RowOrder::in_gguf(std::int64_t row) const noexcept {
  if (kind == Kind::same) return row;
  const std::int64_t in_head = row % head_dim;
  if (kind == Kind::pairs) {
    const std::int64_t half = head_dim / 2;
    return row - in_head + in_head % half * 2 + in_head / half;
  }
  const std::int64_t head = row / head_dim;
  const std::int64_t kv_head = head / (group + 2);
  const std::int64_t place = head % (group + 2);
  const std::int64_t result = place < group
                                  ? kv_head * group + place
                                  : group * kv_heads + (place - group) * kv_heads + kv_head;
  return result * head_dim + in_head;
}

namespace {

class Mapper {
 public:
  Mapper(const Config& config, const GgufArchitecture& architecture)
      : config_(config),
        architecture_(architecture),
        names_(*io::find_architecture(config.model_type)) {}

  std::vector<MappedTensor> run() {
    const std::string prefix(names_.prefix);
    const std::int64_t width = config_.n_embd;
    add_matrix("token_embd", prefix + std::string(names_.tokens), MappedTensor::Role::tokens,
               config_.vocab_size, width);
    if (config_.positions == Positions::learned) {
      add_matrix("position_embd", prefix + std::string(names_.positions),
                 MappedTensor::Role::positions, config_.n_positions, width)
          .first_row = config_.position_offset;
    }
    if (config_.n_token_type > 0) {
      add_matrix("token_types", prefix + std::string(config_.names.token_types),
                 MappedTensor::Role::positions, config_.n_token_type, width);
    }
    add_norm("token_embd_norm", prefix, config_.names.embedding_norm, width);
    for (const Stack& stack : stacks_of(config_, names_)) {
      const std::string side = side_of(stack);
      for (std::int64_t n = 0; n < stack.layers; ++n) add_block(stack, side, n);
      add_norm(side + "output_norm", prefix, stack.parts->final_norm, width);
    }
    if (!config_.tie_word_embeddings || config_.head_may_be_stored) {
      add_matrix("output", std::string(names_.head), MappedTensor::Role::head, config_.vocab_size,
                 width)
          .optional = config_.head_may_be_stored;
    }
    return std::move(result_);
  }

 private:
  MappedTensor& add_matrix(const std::string& name, const std::string& source,
                           MappedTensor::Role role, std::int64_t rows, std::int64_t cols) {
    result_.push_back({name + ".weight", {source + ".weight"}, role, rows, cols});
    return result_.back();
  }
  MappedTensor& add_vector(const std::string& name, const std::string& source, std::int64_t size) {
    result_.push_back({name, {source}, MappedTensor::Role::vector, size, 1});
    return result_.back();
  }
  /// No name: there is no such norm.
  void add_norm(const std::string& name, const std::string& room, std::string_view norm,
                std::int64_t size) {
    if (norm.empty()) return;
    const std::string source = room + std::string(norm);
    add_vector(name + ".weight", source + ".weight", size).offset = config_.norm_offset;
    if (config_.norm_bias) add_vector(name + ".bias", source + ".bias", size);
  }

  /// "enc." and "dec." where there are two stacks.
  [[nodiscard]] std::string side_of(const Stack& stack) const {
    if (config_.kind != ModelKind::encoder_decoder) return {};
    return stack.linears == &names_.encoder_linears ? "enc." : "dec.";
  }

  void add_block(const Stack& stack, const std::string& side, std::int64_t n) {
    const std::string room = std::string(names_.prefix) + stack.name(n, "");
    const std::string block = side + "blk." + std::to_string(n) + ".";
    const PartNames& parts = *stack.parts;
    const std::int64_t width = config_.n_embd;
    if (config_.residual == Residual::post_norm) {
      add_norm(block + "attn_output_norm", room, parts.attention_norm, width);
      add_norm(block + "layer_output_norm", room, parts.mlp_norm, width);
      add_linears(stack, block, room);
      return;
    }
    // Falcon with a norm for each half: GGUF calls the MLP's the first one.
    const bool falcon = architecture_.name == "falcon" && !parts.mlp_norm.empty();
    add_norm(block + (falcon ? "attn_norm_2" : "attn_norm"), room, parts.attention_norm, width);
    const bool by_head = config_.qk_norm_per_head;
    add_norm(block + "attn_q_norm", room, parts.q_norm,
             by_head ? config_.head_dim : config_.q_dim());
    add_norm(block + "attn_k_norm", room, parts.k_norm,
             by_head ? config_.head_dim : config_.kv_dim());
    add_norm(block + "post_attention_norm", room, parts.attention_output_norm, width);
    add_norm(block + "cross_attn_norm", room, parts.cross_norm, width);
    if (n == 0 && !parts.position_bias.empty()) {
      add_matrix(block + "attn_rel_b", room + std::string(parts.position_bias),
                 MappedTensor::Role::positions, config_.relative.buckets, config_.n_head);
    }
    add_norm(block + (falcon ? "attn_norm" : "ffn_norm"), room, parts.mlp_norm, width);
    add_norm(block + "post_ffw_norm", room, parts.mlp_output_norm, width);
    if (config_.n_expert > 0) {
      add_matrix(block + "ffn_gate_inp", room + std::string(parts.router),
                 MappedTensor::Role::router, config_.n_expert, width);
    }
    add_linears(stack, block, room);
  }

  void add_linears(const Stack& stack, const std::string& block, const std::string& room) {
    Block empty = empty_block(config_, *stack.linears);
    const std::size_t experts_begin = result_.size();
    for (const LinearSpec& spec : linears_of(config_, *stack.linears, empty)) {
      const std::string_view linear =
          std::string_view(spec.name).substr(config_.n_expert > 0 ? inside_expert(spec.name) : 0);
      const bool expert = linear.size() != spec.name.size();
      const std::string name =
          block + std::string(gguf_name(linear, *stack.linears)) + (expert ? "_exps" : "");
      if (expert) {  // one tensor for all
        bool found = false;
        for (std::size_t i = experts_begin; i < result_.size() && !found; ++i) {
          if (result_[i].name != name + ".weight") continue;
          result_[i].sources.push_back(room + spec.name + ".weight");
          found = true;
        }
        if (found) continue;
      }
      const RowOrder order = order_of(linear);
      MappedTensor& weight =
          add_matrix(name, room + spec.name, MappedTensor::Role::linear, spec.outputs, spec.inputs);
      weight.order = order;
      weight.transposed = names_.transposed;
      if (spec.bias) {
        add_vector(name + ".bias", room + spec.name + ".bias", spec.outputs).order = order;
      }
    }
  }

  /// Where the name begins behind "EXPERTS.3."; 0: it is no expert's.
  [[nodiscard]] std::size_t inside_expert(std::string_view name) const {
    const std::string_view experts = config_.names.experts;
    if (!name.starts_with(experts)) return 0;
    return name.find('.', experts.size() + 1) + 1;
  }

  [[nodiscard]] std::string_view gguf_name(std::string_view linear,
                                           const io::BlockLinears& names) const {
    const bool two = config_.kind == ModelKind::encoder_decoder;
    if (linear == names.qkv) return "attn_qkv";
    if (linear == names.q) return "attn_q";
    if (linear == names.k) return "attn_k";
    if (linear == names.v) return "attn_v";
    if (linear == names.attention_output) return two ? "attn_o" : "attn_output";
    if (linear == names.cross_q) return "cross_attn_q";
    if (linear == names.cross_k) return "cross_attn_k";
    if (linear == names.cross_v) return "cross_attn_v";
    if (linear == names.cross_output) return "cross_attn_o";
    if (linear == names.gate) return "ffn_gate";
    if (linear == names.up || linear == names.plain_up) return "ffn_up";
    return "ffn_down";
  }

  [[nodiscard]] RowOrder order_of(std::string_view linear) const {
    RowOrder order;
    order.head_dim = config_.head_dim;
    order.group = config_.n_head / config_.n_kv_head;
    order.kv_heads = config_.n_kv_head;
    const io::BlockLinears& names = names_.linears;
    if (linear == names.qkv && config_.qkv_by_head) {
      order.kind = RowOrder::Kind::by_kind;
    } else if (architecture_.turns_pairs && (linear == names.q || linear == names.k)) {
      order.kind = RowOrder::Kind::pairs;
    }
    return order;
  }

  const Config& config_;
  const GgufArchitecture& architecture_;
  const io::Architecture& names_;
  std::vector<MappedTensor> result_;
};

}  // namespace

std::vector<MappedTensor> map_tensors(const Config& config, const GgufArchitecture& architecture) {
  return Mapper(config, architecture).run();
}

}  // namespace kvant::models
