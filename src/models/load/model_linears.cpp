#include "models/load/model_linears.hpp"

#include "kvant/io/architecture.hpp"
#include "models/load/block_layout.hpp"

namespace kvant::models {

std::vector<ModelLinear> linears_of(Model& model) {
  const io::Architecture& names = *io::find_architecture(model.config.model_type);
  const std::vector<Stack> stacks = stacks_of(model.config, names);
  std::vector<ModelLinear> linears;
  for (const Stack& stack : stacks) {
    const bool beside = &stack != &stacks.back();
    std::vector<Block>& blocks = beside ? model.encoder.blocks : model.blocks;
    for (std::size_t n = 0; n < blocks.size(); ++n) {
      for (const LinearSpec& spec : linears_of(model.config, *stack.linears, blocks[n])) {
        if (names.keeps_float(spec.name)) continue;
        linears.push_back(
            {std::string(names.prefix) + stack.name(static_cast<std::int64_t>(n), spec.name),
             spec.slot});
      }
    }
  }
  if (model.head.dense) {
    linears.push_back({std::string(model.config.names.head_dense), &model.head.dense});
  }
  return linears;
}

}  // namespace kvant::models
