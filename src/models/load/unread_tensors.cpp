#include "models/load/unread_tensors.hpp"

#include <algorithm>
#include <string_view>
#include <vector>

#include "io/text/quoting.hpp"
#include "kvant/error.hpp"
#include "models/load/weight_source.hpp"

namespace kvant::models {
namespace {

constexpr std::string_view kBias = ".bias";

/// What transformers saved along in some of its versions, though it is computed, or, of T5's cross
/// attention, has no effect.
bool is_computed(std::string_view part) {
  constexpr std::string_view kNames[] = {"attn.bias",
                                         "attention.bias",
                                         "attn.masked_bias",
                                         "attention.masked_bias",
                                         "rotary_emb",
                                         "rotary_pos_emb",
                                         "rope_freqs",
                                         "rot_embd",
                                         "EncDecAttention.relative_attention_bias",
                                         "cross_attn_rel_b"};
  return std::any_of(std::begin(kNames), std::end(kNames), [&](std::string_view name) {
    return part.find(name) != std::string_view::npos;
  });
}

bool is_zero(const WeightSource& source, const std::string& bias) {
  const SourceTensor tensor = source.describe(bias);
  if (tensor.shape.size() != 1) return false;
  std::vector<std::byte> bytes(static_cast<std::size_t>(tensor.shape[0]) *
                               static_cast<std::size_t>(describe(tensor.dtype).bits / 8));
  source.read(bias, 0, 1, bytes.data());
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

/// The weights and biases of one stack's blocks, from the block on.
class KnownParts {
 public:
  KnownParts(const Config& config, const PartLoader& parts, const Stack& stack)
      : block_(empty_block(config, *stack.linears)) {
    for (const LinearSpec& linear : parts.linears(stack, block_)) {
      add(linear.name, linear.bias);
    }
    const PartNames& names = *stack.parts;
    for (const std::string_view norm :
         {names.attention_norm, names.attention_output_norm, names.mlp_norm, names.mlp_output_norm,
          names.q_norm, names.k_norm, names.cross_norm}) {
      add(norm, config.norm_bias);
    }
    add(names.router, false);
    add(names.position_bias, false);
  }

  /// part: "self_attn.q_proj.weight"
  [[nodiscard]] bool contain(std::string_view part) const {
    return std::find(names_.begin(), names_.end(), part) != names_.end();
  }

 private:
  void add(std::string_view name, bool bias) {
    if (name.empty()) return;
    names_.push_back(std::string(name) + std::string(kWeight));
    if (bias) names_.push_back(std::string(name) + std::string(kBias));
  }

  Block block_;
  std::vector<std::string> names_;
};

}  // namespace

void require_all_read(const Config& config, const PartLoader& parts, const WeightSource& source) {
  const std::vector<std::string> names = source.names();
  const auto refuse = [&](const std::string& name) {
    throw Error(ErrorCode::unsupported,
                "tensor " + io::in_quotes(name) + " is no part of a " +
                    std::string(config.model_type) +
                    " as its configuration describes it: without it the model would be another; "
                    "is its type right, and does config.json say all that the model has "
                    "(attention_bias, mlp_bias)?");
  };
  for (const std::string& name : names) {          // of GGUF, where the model has no name for it
    const bool behind = name.starts_with("cls.");  // what a classifier makes of the states
    if (!source.contains(name) && !behind && !is_computed(name)) refuse(name);
  }
  for (const Stack& stack : parts.stacks()) {
    const KnownParts known(config, parts, stack);
    const std::string start = parts.name_of(std::string(stack.blocks)).file + ".";
    for (const std::string& name : names) {
      if (!name.starts_with(start) || !(name.ends_with(kWeight) || name.ends_with(kBias))) continue;
      const std::size_t number = start.size();
      const std::size_t dot = name.find('.', number);
      if (dot == std::string::npos) continue;
      const std::string_view part = std::string_view(name).substr(dot + 1);
      if (known.contain(part) || is_computed(part)) continue;
      if (name.ends_with(kBias) && is_zero(source, name)) continue;
      refuse(name);
    }
  }
}

}  // namespace kvant::models
