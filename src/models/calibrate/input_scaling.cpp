#include "models/calibrate/input_scaling.hpp"

#include <algorithm>
#include <utility>

namespace kvant::models {
namespace {

class Finder {
 public:
  Finder(const Config& config, const PartLoader& parts, const WeightSource& source)
      : config_(config), parts_(parts), source_(source) {}

  std::vector<ScalableInput> find() {
    if (config_.residual == Residual::post_norm) return {};
    for (const Stack& stack : parts_.stacks()) {
      for (std::int64_t n = 0; n < stack.layers; ++n) add_block(stack, n);
    }
    return std::move(result_);
  }

 private:
  void add_block(const Stack& stack, std::int64_t n) {
    Block block = empty_block(config_, *stack.linears);
    const std::vector<LinearSpec> specs = parts_.linears(stack, block);
    const auto spec_of = [&](const std::unique_ptr<LinearLayer>& slot) {
      return *std::find_if(specs.begin(), specs.end(),
                           [&](const LinearSpec& spec) { return spec.slot == &slot; });
    };
    const auto with = [&](ScalableInput& input, const Projection& projection) {
      for (const auto& part : projection.parts) {
        add_layer(input, stack, n, spec_of(part));
      }
    };
    const PartNames& names = *stack.parts;
    const bool mixture = config_.n_expert > 0;
    const bool one_input = config_.residual == Residual::parallel && names.mlp_norm.empty();
    ScalableInput attention = behind_norm(stack, n, names.attention_norm);
    with(attention, block.qkv);
    if (one_input && !mixture) with(attention, block.mlps.front().up);
    if (!(one_input && mixture)) keep(std::move(attention));
    if (block.qkv.parts.size() == 3 && config_.n_kv_head == config_.n_head) {
      ScalableInput values = behind_layer(stack, n, spec_of(block.qkv.parts[2]));
      add_layer(values, stack, n, spec_of(block.attention_output));
      keep(std::move(values));
    }
    if (mixture) return;  // the router reads the same norm, and experts see few tokens
    if (!one_input) {
      ScalableInput mlp = behind_norm(stack, n, names.mlp_norm);
      with(mlp, block.mlps.front().up);
      keep(std::move(mlp));
    }
    const Mlp& mlp = block.mlps.front();
    if (config_.gated_mlp && mlp.up.parts.size() == 2) {
      ScalableInput product = behind_layer(stack, n, spec_of(mlp.up.parts[1]));
      add_layer(product, stack, n, spec_of(mlp.down));
      keep(std::move(product));
    }
  }

  void add_layer(ScalableInput& input, const Stack& stack, std::int64_t n, LinearSpec spec) const {
    input.layers.push_back(parts_.name_of(stack.name(n, spec.name)).file);
    spec.slot = nullptr;
    input.specs.push_back(std::move(spec));
  }

  [[nodiscard]] ScalableInput behind_norm(const Stack& stack, std::int64_t n,
                                          std::string_view norm) const {
    ScalableInput input;
    input.offset = config_.norm_offset;
    if (!norm.empty()) add_tensors(input, parts_.name_of(stack.name(n, norm)).file);
    return input;
  }

  [[nodiscard]] ScalableInput behind_layer(const Stack& stack, std::int64_t n,
                                           const LinearSpec& spec) const {
    ScalableInput input;
    input.is_norm = false;
    if (!spec.stays_float) add_tensors(input, parts_.name_of(stack.name(n, spec.name)).file);
    return input;
  }

  void add_tensors(ScalableInput& input, const std::string& name) const {
    if (!source_.contains(name + ".weight")) return;
    input.before.push_back(name + ".weight");
    if (source_.contains(name + ".bias")) input.before.push_back(name + ".bias");
  }

  void keep(ScalableInput input) {
    if (!input.before.empty()) result_.push_back(std::move(input));
  }

  const Config& config_;
  const PartLoader& parts_;
  const WeightSource& source_;
  std::vector<ScalableInput> result_;
};

}  // namespace

std::vector<ScalableInput> scalable_inputs(const Config& config, const PartLoader& parts,
                                           const WeightSource& source) {
  return Finder(config, parts, source).find();
}

}  // namespace kvant::models
